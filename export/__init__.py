"""PyTorch side of topos_rt: network definitions, checkpoint import, ONNX export. The runtime never imports it."""
