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


def test_features_are_those_of_the_last_block_with_128_filters() -> None:
    """Stages of dlib's ResNet end with a block; the last one of a shape is the last sum of that shape."""
    onnx = needs.module("onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(FaceBundle.open().graph("face_identity")))
    graph = model.graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    sums = [n.output[0] for n in graph.node if n.op_type == "Add" and shapes[n.output[0]] == [1, 128, 8, 8]]
    (behind,) = (node for node in graph.node if sums[-1] in node.input)
    assert len(sums) == 3 and behind.op_type == "Relu" and list(behind.output) == ["features"]
    assert [output.name for output in graph.output] == ["embedding", "features"]
    assert sum("features" in node.input for node in graph.node) == 2  # the next block and what passes by it
