"""Tests of the GPUs' readings."""
