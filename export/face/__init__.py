"""The face stage: its networks, converted from the files of public packages to ONNX."""
