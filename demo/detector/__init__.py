"""A small detector of our own, trained on rendered scenes only."""

LABELS = ("person", "bicycle", "car", "truck", "dog", "cat")
"""COCO names of its classes, by index."""
WIDTH, HEIGHT = 320, 192
"""Input size, pixels; 16:9 pictures fill it but for 12 rows."""
