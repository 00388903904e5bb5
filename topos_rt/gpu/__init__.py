"""CUDA, and our own kernels with their NumPy twins. This room knows arrays and tables, not heads."""
