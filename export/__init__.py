"""PyTorch side of topos_rt: networks, checkpoint import, ONNX export. The runtime never imports it."""
