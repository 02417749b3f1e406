"""The robot as tools for language models."""
