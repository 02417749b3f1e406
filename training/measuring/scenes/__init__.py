"""Measurements on images of many things, of which the boxes are known."""
