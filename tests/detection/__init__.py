"""Choosing, downloading and installing detectors."""
