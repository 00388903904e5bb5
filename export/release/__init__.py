"""Import the released TOPOS checkpoints and topology files."""
