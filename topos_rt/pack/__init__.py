"""Engine packs: a model and its face networks in one file, for the C library. docs/pack.md has every byte."""
