"""Rendered scenes with exact ground truth, and the demo that plays them."""
