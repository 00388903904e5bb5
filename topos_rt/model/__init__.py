"""A model bundle: read from disk, verified, loaded into engines and run."""
