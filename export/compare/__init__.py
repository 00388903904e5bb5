"""Comparing the engines of a bundle with each other."""
