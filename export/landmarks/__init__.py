"""The map of a face's landmarks onto a topology: drawings of a head, what is seen in them, and smoothing."""
