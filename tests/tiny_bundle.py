"""A complete bundle of a few kilobytes with meaningless weights, for tests that need no trained model.

`TinyModel` holds the weights and the graphs in NumPy (float64); `write_tiny_bundle` writes the same
graphs as ONNX, with the weights in one safetensors file, as in an exported bundle.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from tests.landmark_maps import landmark_map
from tests.meshes import ball
from topos_rt.engines.contract import BATCH
from topos_rt.engines.fake import FakeEngine
from topos_rt.flow.variation import Variation
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.rig import Rig
from topos_rt.model.bundle import write_manifest
from topos_rt.model.evidence import EVIDENCE
from topos_rt.model.manifest import (
    GRAPHS_AT_ONCE,
    AtOnceFiles,
    FlowSpec,
    FrameSpec,
    GraphFiles,
    ImageSpec,
    LatentSpec,
    Manifest,
    PointSpec,
    WeightsInfo,
)
from topos_rt.support.arrays import Array, TensorSpec

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

SIDE, TOKENS, CHANNELS = 32, 4, 5  # image; the encoder's patches have SIDE / 2 pixels a side
N, D = 6, 3  # latent
BLOCKS, HEADS, HEAD_DIM = 2, 1, 4
WIDTH = 2  # of the modulation
POINTS = 40
FRAME = FrameSpec(up="+z", forward="-y", radius_m=0.125)
FLOW = FlowSpec(sigma_min=1e-5, guidance=1.5, temperature=0.75)
HEAD = ball(rings=6, segments=8, radius=1.0)
V = HEAD.topology.num_vertices

_STEP: Shapes = {
    "latent": (1, N, D),
    "modulation": (BLOCKS, 6, WIDTH),
    **dict.fromkeys(("keys", "values"), (BLOCKS, HEADS, TOKENS, HEAD_DIM)),
}
SHAPES: dict[str, tuple[Shapes, Shapes]] = {
    "image_encoder": ({"pixels": (1, 3, SIDE, SIDE)}, {"tokens": (1, TOKENS, CHANNELS)}),
    "dit_context": (
        {"tokens": (1, TOKENS, CHANNELS)},
        dict.fromkeys(("keys", "values"), (BLOCKS, HEADS, TOKENS, HEAD_DIM)),
    ),
    "dit_modulation": ({"time": (1,)}, {"modulation": (BLOCKS, 6, WIDTH)}),
    "dit_step": (_STEP, {"velocity": (1, N, D)}),
    "dit_step_guided": ({**_STEP, "guidance": (1,)}, dict.fromkeys(("velocity", "difference"), (1, N, D))),
    "vae_decoder": ({"latent": (1, N, D)}, {"vertices": (1, V, 6)}),
    "vae_encoder": ({"points": (1, POINTS, 6)}, {"mean": (1, N, D), "logvar": (1, N, D)}),
}


RESIDUAL_SCALE = 0.375


def shapes(evidence: Sequence[str] = (), estimating: bool = False) -> dict[str, tuple[Shapes, Shapes]]:
    """Return the shapes of the graphs of a model that takes some evidence, and may estimate the latent."""
    inputs, outputs = SHAPES["image_encoder"]
    if estimating:
        outputs = {**outputs, "estimate": (1, N, D)}
    return SHAPES | {"image_encoder": ({**inputs, **{name: EVIDENCE[name] for name in evidence}}, outputs)}


def variation() -> Variation:
    """Return two directions of the latent."""
    rows = np.linalg.qr(np.random.default_rng(8).standard_normal((N * D, 2)))[0].T
    return Variation(np.ascontiguousarray(rows, np.float32), 1.25)


class TinyModel:
    """The graphs in float64."""

    def __init__(self, evidence: Sequence[str] = (), estimating: bool = False) -> None:
        self.evidence, self.estimating = tuple(evidence), estimating
        draw = np.random.default_rng(5).standard_normal
        per_token = BLOCKS * HEADS * HEAD_DIM
        template = np.hstack([HEAD.positions, HEAD.normals]) @ np.kron(np.eye(2), FRAME.rotation)
        self.weights: dict[str, np.ndarray] = {
            "image_encoder.w": draw((3, CHANNELS)),
            "dit_context.wk": 0.5 * draw((CHANNELS, per_token)),
            "dit_context.bk": 0.5 * draw(per_token),
            "dit_context.wv": 0.5 * draw((CHANNELS, per_token)),
            "dit_context.bv": 0.5 * draw(per_token),
            "dit_step.latent": 0.3 * draw((D, D)),
            "dit_modulation.w": 0.5 * draw((BLOCKS, 6, WIDTH)),
            "dit_step.modulation": 0.3 * draw((BLOCKS * 6 * WIDTH, N * D)),
            "dit_step.keys": 0.5 * draw((per_token, N * D)),
            "dit_step.values": 0.5 * draw((per_token, N * D)),
            "vae_decoder.w": 0.01 * draw((N * D, V * 6)),
            "vae_decoder.template": template[None],
            "vae_encoder.w": draw((6, N * D)),
            "vae_encoder.scale": np.float64([0.5]),
        }
        for name in self.evidence:
            size = math.prod(EVIDENCE[name])
            self.weights[f"image_encoder.{name}"] = draw((size, TOKENS * CHANNELS)) / math.sqrt(size)
        if estimating:
            self.weights["image_encoder.estimate"] = draw((TOKENS * CHANNELS, N * D))
        self.weights = {name: w.astype(np.float32) for name, w in self.weights.items()}
        self.weights["dit_step.null"] = self._seen(
            *(np.tile(self.weights[f"dit_context.b{kind}"], (TOKENS, 1)) for kind in "kv")
        )

    def image_encoder(self, pixels: np.ndarray, **evidence: np.ndarray) -> dict[str, np.ndarray]:
        assert tuple(evidence) == self.evidence
        half = SIDE // 2
        patches = pixels.astype(np.float64).reshape(3, 2, half, 2, half).mean((2, 4)).reshape(3, TOKENS)
        tokens = (patches.T @ self.weights["image_encoder.w"])[None]
        for name, seen in evidence.items():
            moved = seen.astype(np.float64).reshape(1, -1) @ self.weights[f"image_encoder.{name}"]
            tokens = tokens + moved.reshape(1, TOKENS, CHANNELS)
        if not self.estimating:
            return {"tokens": tokens}
        estimate = tokens.reshape(1, -1) @ self.weights["image_encoder.estimate"]
        return {"tokens": tokens, "estimate": estimate.reshape(1, N, D)}

    def dit_modulation(self, time: np.ndarray) -> dict[str, np.ndarray]:
        return {"modulation": time[0] * self.weights["dit_modulation.w"]}

    def dit_context(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        def split(kind: str) -> np.ndarray:
            flat = tokens[0] @ self.weights[f"dit_context.w{kind}"] + self.weights[f"dit_context.b{kind}"]
            return flat.reshape(TOKENS, BLOCKS, HEADS, HEAD_DIM).transpose(1, 2, 0, 3)

        return {"keys": split("k"), "values": split("v")}

    def dit_step(
        self, latent: np.ndarray, modulation: np.ndarray, keys: np.ndarray, values: np.ndarray
    ) -> dict[str, np.ndarray]:
        flat = (part.transpose(2, 0, 1, 3).reshape(TOKENS, -1) for part in (keys, values))
        return {"velocity": self._own(latent, modulation) + self._seen(*flat)}

    def dit_step_guided(
        self,
        latent: np.ndarray,
        modulation: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        guidance: np.ndarray,
    ) -> dict[str, np.ndarray]:
        conditional = self.dit_step(latent, modulation, keys, values)["velocity"]
        difference = conditional - self._own(latent, modulation) - self.weights["dit_step.null"]
        return {"velocity": conditional + guidance * difference, "difference": difference}

    def velocity(self, x: np.ndarray, t: float, tokens: np.ndarray) -> np.ndarray:
        """Return the velocity from the whole network in one call, as a reference."""
        return self.dit_step(x, **self.dit_modulation(np.array([t])), **self.dit_context(tokens))["velocity"]

    def _own(self, latent: np.ndarray, modulation: np.ndarray) -> np.ndarray:
        moved = modulation.reshape(1, -1) @ self.weights["dit_step.modulation"]
        return latent @ self.weights["dit_step.latent"] + moved.reshape(1, N, D)

    def _seen(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return what the latent gains from keys and values [TOKENS, channels]: [1,N,D]."""
        seen = keys.mean(0) @ self.weights["dit_step.keys"] + values.mean(0) @ self.weights["dit_step.values"]
        return seen.reshape(1, N, D)

    def vae_decoder(self, latent: np.ndarray) -> dict[str, np.ndarray]:
        offset = (latent.reshape(-1) @ self.weights["vae_decoder.w"]).reshape(1, V, 6)
        return {"vertices": offset + self.weights["vae_decoder.template"]}

    def vae_encoder(self, points: np.ndarray) -> dict[str, np.ndarray]:
        mean = (points.mean(1) @ self.weights["vae_encoder.w"]).reshape(1, N, D)
        return {"mean": mean, "logvar": mean * self.weights["vae_encoder.scale"]}

    def engine(self, graph: str) -> FakeEngine:
        """Return the graph as a fake engine."""

        def handler(feeds: Mapping[str, Array]) -> dict[str, Array]:
            outputs = getattr(self, graph)(**feeds)
            return {name: value.astype(np.float32) for name, value in outputs.items()}

        inputs, outputs = shapes(self.evidence, self.estimating)[graph]
        return FakeEngine(handler, specs(inputs), specs(outputs))


def specs(shapes: Shapes) -> dict[str, TensorSpec]:
    return {name: TensorSpec(shape, np.dtype(np.float32)) for name, shape in shapes.items()}


def engines(evidence: Sequence[str] = ()) -> dict[str, FakeEngine]:
    """Return the graphs as fake engines."""
    model = TinyModel(evidence)
    return {graph: model.engine(graph) for graph in SHAPES}


def write_tiny_bundle(
    directory: Path,
    evidence: Sequence[str] = (),
    varied: bool = False,
    estimating: bool = False,
    at_once: bool = False,
) -> Manifest:
    """Write the bundle into an existing, empty directory.

    at_once: whether it has graphs that take several heads at once.

    evidence: what its image encoder takes besides the pixels; varied: whether it has `variation`; estimating:
    whether its image encoder estimates the latent, too.
    """
    weights = TinyModel(evidence, estimating).weights
    data = save(weights)
    (directory / "weights.safetensors").write_bytes(data)
    made = {
        graph: (nodes, shapes(evidence, estimating)[graph])
        for graph, nodes in _nodes(evidence, estimating).items()
    }
    if at_once:
        several = {
            graph: nodes for graph, nodes in _nodes((), False, True).items() if graph in GRAPHS_AT_ONCE
        }
        made |= {
            f"{graph}.at_once": (nodes, shapes_at_once(graph, BATCH)) for graph, nodes in several.items()
        }
    for graph, (nodes, ends) in made.items():
        used = {name for node in nodes for name in node.input}
        own = {name: w for name, w in weights.items() if name in used}
        model = _model(ends, graph, nodes, [_external(name, w, data) for name, w in own.items()])
        (directory / f"{graph}.onnx").write_bytes(model.SerializeToString())
    HEAD.topology.save(directory / "topology.safetensors")
    edges = HEAD.topology.edges
    hierarchy = Hierarchy.build(HEAD.positions, HEAD.normals, edges, depth=2, num_levels=3)
    hierarchy.save(directory / "hierarchy.safetensors")
    _rig().save(directory / "rig.safetensors")
    landmark_map(HEAD.topology).save(directory / "landmarks.safetensors")
    if varied:
        variation().save(directory / "variation.safetensors")
    own = dataclasses.replace(
        manifest(),
        evidence=tuple(evidence) or None,
        residual_scale=RESIDUAL_SCALE if estimating else None,
        variation="variation.safetensors" if varied else None,
        flops=flops(evidence, estimating),
        graphs_at_once={"fp32": AtOnceFiles(**{graph: f"{graph}.at_once.onnx" for graph in GRAPHS_AT_ONCE})}
        if at_once
        else None,
    )
    return write_manifest(directory, own)


def manifest() -> Manifest:
    return Manifest(
        name="tiny",
        description="A bundle for tests.",
        weights=WeightsInfo(origin="seeded random numbers", licence="MIT", kind="random"),
        graphs=GraphFiles(**{graph: f"{graph}.onnx" for graph in SHAPES}),
        graphs_fp16=None,
        graphs_at_once=None,
        topology="topology.safetensors",
        hierarchy="hierarchy.safetensors",
        rig="rig.safetensors",
        landmarks="landmarks.safetensors",
        atlas=None,
        evidence=None,
        residual_scale=None,
        landmark_response=None,
        variation=None,
        parts=None,
        image=ImageSpec(SIDE, SIDE, TOKENS, CHANNELS),
        latent=LatentSpec(N, D),
        points=PointSpec(POINTS),
        flow=FLOW,
        frame=FRAME,
        flops=flops(),
    )


def flops(evidence: Sequence[str] = (), estimating: bool = False) -> dict[str, int]:
    """Return the FLOPs of the products in `_nodes`, added up by hand."""
    per_token = BLOCKS * HEADS * HEAD_DIM
    own = BLOCKS * 6 * WIDTH * N * D + N * D * D
    step = 2 * (own + 2 * per_token * N * D)
    return {
        "image_encoder": 2
        * TOKENS
        * CHANNELS
        * (3 + sum(math.prod(EVIDENCE[name]) for name in evidence) + estimating * N * D),
        "dit_modulation": 0,
        "dit_context": 2 * 2 * TOKENS * CHANNELS * per_token,
        "dit_step": step,
        "dit_step_guided": step,
        "vae_decoder": 2 * N * D * V * 6,
        "vae_encoder": 2 * 6 * N * D,
    }


def _rig() -> Rig:
    return Rig(
        joint_names=("neck", "head"),
        joint_parents=np.array([-1, 0]),
        joint_positions=np.float32([[0, -0.1, 0], [0, 0, 0]]),
        skin_joints=np.tile(np.uint16([0, 1, 0, 0]), (V, 1)),
        skin_weights=np.tile(np.float32([0.25, 0.75, 0, 0]), (V, 1)),
        shape_names=("jawOpen", "browInnerUp"),
        shape_index=np.array([0, 5, 7]),
        shape_delta=np.float32([[0, -0.01, 0], [0, -0.02, 0], [0, 0.01, 0]]),
        shape_offsets=np.array([0, 2, 3]),
    )


def shapes_at_once(graph: str, number: Any) -> tuple[Shapes, Shapes]:
    """Return the shapes of a graph that takes a number of heads at once."""
    shared = ("modulation", "guidance")

    def own(name: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
        rest = shape if name in ("keys", "values") else shape[1:]
        return shape if name in shared else (number, *rest)

    inputs, outputs = ({name: own(name, shape) for name, shape in s.items()} for s in SHAPES[graph])
    return inputs, outputs


def _nodes(
    evidence: Sequence[str], estimating: bool, at_once: bool = False
) -> dict[str, list[onnx.NodeProto]]:
    node, per_token = helper.make_node, BLOCKS * HEADS * HEAD_DIM

    def split(kind: str, name: str) -> list[onnx.NodeProto]:
        first = (-1,) if at_once else ()
        return [
            node("MatMul", ["tokens", f"dit_context.w{kind}"], [f"{kind}0"]),
            node("Add", [f"{kind}0", f"dit_context.b{kind}"], [f"{kind}1"]),
            *_reshape(f"{kind}1", f"{kind}2", (*first, TOKENS, BLOCKS, HEADS, HEAD_DIM)),
            node("Transpose", [f"{kind}2"], [name], perm=[0, 2, 3, 1, 4] if at_once else [1, 2, 0, 3]),
        ]

    def seen(name: str) -> list[onnx.NodeProto]:
        first = -1 if at_once else 1
        return [
            node("ReduceMean", [name], [f"{name}0"], axes=[3 if at_once else 2], keepdims=0),
            *_reshape(f"{name}0", f"{name}1", (first, per_token)),
            node("MatMul", [f"{name}1", f"dit_step.{name}"], [f"{name}2"]),
            *_reshape(f"{name}2", f"{name}3", (first, N, D)),
        ]

    own = [
        *_reshape("modulation", "modulated", (1, BLOCKS * 6 * WIDTH)),
        node("MatMul", ["modulated", "dit_step.modulation"], ["pushed"]),
        *_reshape("pushed", "pushes", (1, N, D)),
        node("MatMul", ["latent", "dit_step.latent"], ["moved"]),
        node("Add", ["moved", "pushes"], ["own"]),
    ]
    return {
        "image_encoder": _encoder(evidence, estimating),
        "dit_context": split("k", "keys") + split("v", "values"),
        "dit_modulation": [node("Mul", ["time", "dit_modulation.w"], ["modulation"])],
        "dit_step": [
            *own,
            *seen("keys"),
            *seen("values"),
            node("Sum", ["own", "keys3", "values3"], ["velocity"]),
        ],
        "dit_step_guided": [
            *own,
            *seen("keys"),
            *seen("values"),
            node("Sum", ["own", "keys3", "values3"], ["conditional"]),
            node("Sub", ["conditional", "own"], ["lifted"]),
            node("Sub", ["lifted", "dit_step.null"], ["difference"]),
            node("Mul", ["guidance", "difference"], ["push"]),
            node("Add", ["conditional", "push"], ["velocity"]),
        ],
        "vae_decoder": [
            *_reshape("latent", "flat", (1, N * D)),
            node("MatMul", ["flat", "vae_decoder.w"], ["offset"]),
            *_reshape("offset", "offsets", (1, V, 6)),
            node("Add", ["offsets", "vae_decoder.template"], ["vertices"]),
        ],
        "vae_encoder": [
            node("ReduceMean", ["points"], ["mass"], axes=[1], keepdims=0),
            node("MatMul", ["mass", "vae_encoder.w"], ["flat"]),
            *_reshape("flat", "mean", (1, N, D)),
            node("Mul", ["mean", "vae_encoder.scale"], ["logvar"]),
        ],
    }


def _encoder(evidence: Sequence[str], estimating: bool) -> list[onnx.NodeProto]:
    node, half = helper.make_node, SIDE // 2
    seen = "looks" if evidence else "tokens"
    nodes = [
        node("AveragePool", ["pixels"], ["pooled"], kernel_shape=[half, half], strides=[half, half]),
        *_reshape("pooled", "patches", (1, 3, TOKENS)),
        node("Transpose", ["patches"], ["rows"], perm=[0, 2, 1]),
        node("MatMul", ["rows", "image_encoder.w"], [seen]),
    ]
    for name in evidence:
        nodes += _reshape(name, f"{name}.flat", (1, math.prod(EVIDENCE[name])))
        nodes.append(node("MatMul", [f"{name}.flat", f"image_encoder.{name}"], [f"{name}.moved"]))
        nodes += _reshape(f"{name}.moved", f"{name}.tokens", (1, TOKENS, CHANNELS))
    if evidence:
        nodes.append(node("Sum", [seen, *(f"{name}.tokens" for name in evidence)], ["tokens"]))
    if estimating:
        nodes += _reshape("tokens", "told", (1, TOKENS * CHANNELS))
        nodes.append(node("MatMul", ["told", "image_encoder.estimate"], ["estimated"]))
        nodes += _reshape("estimated", "estimate", (1, N, D))
    return nodes


def _reshape(source: str, target: str, shape: tuple[int, ...]) -> list[onnx.NodeProto]:
    constant = numpy_helper.from_array(np.array(shape, np.int64))
    return [
        helper.make_node("Constant", [], [f"{target}.shape"], value=constant),
        helper.make_node("Reshape", [source, f"{target}.shape"], [target]),
    ]


def _external(name: str, array: np.ndarray, data: bytes) -> onnx.TensorProto:
    """Return a reference to the array `name` inside the safetensors file `data`."""
    header_size = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + header_size])[name]["data_offsets"]
    tensor = onnx.TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL
    )
    where: dict[str, Any] = {
        "location": "weights.safetensors",
        "offset": 8 + header_size + start,
        "length": end - start,
    }
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _model(
    ends: tuple[Shapes, Shapes], graph: str, nodes: Sequence[onnx.NodeProto], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in ends
    )
    made = helper.make_graph(nodes, graph, inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
