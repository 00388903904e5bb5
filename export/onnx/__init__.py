"""Turn PyTorch networks into ONNX graphs and the weights file that they share."""
