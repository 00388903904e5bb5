"""Measurements of speed and quality; results as JSON in `results/`."""
