"""Measurements of speed and quality. The results are JSON files in `results/`."""
