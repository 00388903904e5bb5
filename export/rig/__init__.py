"""Bring a rig of one's own into a bundle."""
