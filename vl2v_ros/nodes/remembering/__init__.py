"""The node that remembers what the cameras saw, and its parts."""
