"""PyTorch networks to ONNX graphs and the weights file that they share."""
