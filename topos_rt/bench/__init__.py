"""Measurements of a pipeline on this machine: what `topos-rt bench` does. `docs/bench.md` has the schema.

`session` runs heads or single graphs while warm, `cold` starts fresh processes, `ceilings` and `roofline` say
what the machine allows, `diagnose` what holds it back, `compare` whether two results differ.
"""
