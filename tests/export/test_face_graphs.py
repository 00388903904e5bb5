"""The form of the face networks in ONNX."""

from __future__ import annotations

from tests import needs
from topos_rt.faces.bundle import NETWORKS, FaceBundle


def test_no_operator_leaves_the_blocked_layout() -> None:
    """ONNX Runtime has no PRelu in it; with 69 of them, finding landmarks took nearly twice as long."""
    onnx = needs.module("onnx")
    bundle = FaceBundle.open()
    for name in NETWORKS:
        kinds = {node.op_type for node in onnx.load(bundle.graph(name)).graph.node}
        assert "Conv" in kinds
        assert "PRelu" not in kinds, name
