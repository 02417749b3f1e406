"""What the classifier does on demand: its services, but for that of the vocabulary."""
