"""Make bundles: import checkpoints, export ONNX graphs, and compare engines. The runtime never imports it."""

from topos_rt.support.boundary import guard

guard("export")
