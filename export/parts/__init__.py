"""The parts of a topology: teeth and lashes of MakeHuman's base mesh, bound to the vertices of its heads."""
