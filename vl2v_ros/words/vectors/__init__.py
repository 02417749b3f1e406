"""Vectors of images beside those of words: where they come from, and what is taught by them."""
