"""TensorRT and TensorRT-RTX behind one implementation."""
