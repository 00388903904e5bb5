"""Pixels in, pixels out: reading portraits, and drawing heads without a display."""
