"""Make bundles: import checkpoints, export ONNX graphs, and compare engines. The runtime never imports it."""
