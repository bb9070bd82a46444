"""Nemotron Home Security."""
