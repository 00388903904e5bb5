"""Scans of heads: reading them, finding the latent that fits, and measuring what is left."""
