"""Measurements of a pipeline on this machine: what `topos-rt bench` does. `docs/bench.md` has the schema.

`session` times heads or single graphs in a warm process, and `cold` starts fresh processes. `ceilings` and
`roofline` say what the machine allows, `diagnose` what slows it down, `compare` whether two results differ.
"""
