"""The topics of the classifier: of a camera, of the boxes in its images, of the vocabulary."""
