"""TOPOS-Texture from the user's copy of its weights: as a texture bundle, or run in PyTorch as released."""
