"""How the bundled `mini` model was made: synthetic heads, rendered portraits, two training loops."""
