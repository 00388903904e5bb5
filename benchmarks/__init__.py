"""Measurements of speed and quality. The results are JSON files in `results/`."""

from topos_rt.support.boundary import guard

guard("benchmarks")
