"""`python -m export atlas`: UVs for textures, areas of the face, and the base material of a topology."""
