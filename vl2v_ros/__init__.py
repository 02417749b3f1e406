"""Open-vocabulary labels for camera images, by a student distilled from CLIP."""
