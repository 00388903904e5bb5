"""Textures of heads: the photograph laid on them, its light and all that hides the face taken away."""
