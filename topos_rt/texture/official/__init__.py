"""The released texture stage, TOPOS-Texture, run by engines, for those who have its weights."""
