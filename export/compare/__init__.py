"""Compare the engines of a bundle with each other."""
