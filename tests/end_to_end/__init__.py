"""Tests of a whole Home Assistant, as a process."""
