"""The VAE decoder as a sequence of kernel launches, made from named tensors and a hierarchy.

Source of the network: TOPOS (arXiv 2605.14594), `models/vae.py`, whose names the tensors carry.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.gpu.layers import Layer, padded
from topos_rt.gpu.tables import Array, Graph, Put, inverse, local_orders
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.support.strictjson import AGAIN

Tensors: TypeAlias = Mapping[str, np.ndarray]
PREFIX = "decoder."  # of the tensors' names in a bundle's weights
WEIGHTS = "weights.safetensors"
SLOTS = 4  # buffers of features: the input of a block, its middle, its skip, its output
_BLOCK = re.compile(r"decoder\.(\d+)\.resblks\.(\d+)\.conv_a\.gn\.weight")


@dataclass(frozen=True, eq=False)
class Step:
    """One launch of graph_conv. Slots are numbers of buffers."""

    name: str
    graph: Graph
    layer: Layer
    source: int
    target: int
    residual: int | None = None
    residual_rows: Array | None = None
    silu: bool = True

    @property
    def by_tiles(self) -> bool:
        """Whether Hopper's kernel can do it, see `Plan.tiled`."""
        return self.layer.tileable and self.graph.tiles is not None


@dataclass(frozen=True, eq=False)
class Plan:
    """All launches of a decoder, in order, and what they read.

    First the latent is projected on `basis` (if any) and packed, then come the steps, then `last` with the
    arguments of `topos_rt.gpu.ops.linear_out`.
    """

    latent: tuple[int, int]  # [N,D]
    latent_rows: Array  # [N] int32 latent token that each row is
    basis: Array | None  # [K, N*D]
    steps: tuple[Step, ...]
    last: Layer
    last_source: int
    out_rows: Array  # [V] int32
    scale: Array | None  # [6]
    mean: Array | None  # [V,6]

    @property
    def vertices(self) -> int:
        return len(self.out_rows)

    def slot_sizes(self) -> list[int]:
        """Numbers that each slot must hold."""
        sizes = [0] * SLOTS
        sizes[0] = self.latent[0] * padded(self.latent[1])
        for step in self.steps:
            sizes[step.target] = max(sizes[step.target], step.graph.rows * step.layer.c_out)
        return sizes

    def tiled(self) -> Plan:
        """For Hopper's kernel wherever a step fits it; what several steps share is made once."""
        unique = {id(step.graph): step.graph for step in self.steps}
        graphs = {key: graph.tiled() for key, graph in unique.items()}
        steps = tuple(dataclasses.replace(step, graph=graphs[id(step.graph)]) for step in self.steps)
        return dataclasses.replace(self, steps=steps)

    def placed(self, put: Put) -> Plan:
        """The same plan with every array on a device; what several steps share is there once."""
        seen: dict[int, tuple[np.ndarray, Array]] = {}  # keeps the array: another could get its id

        def once(array: np.ndarray) -> Array:
            if id(array) not in seen:
                seen[id(array)] = array, put(array)
            return seen[id(array)][1]

        def maybe(array: Array | None) -> Array | None:
            return None if array is None else once(array)

        graphs = {id(step.graph): step.graph.placed(once) for step in self.steps}
        steps = tuple(
            dataclasses.replace(
                step,
                graph=graphs[id(step.graph)],
                layer=step.layer.placed(put, step.by_tiles),
                residual_rows=maybe(step.residual_rows),
            )
            for step in self.steps
        )
        return dataclasses.replace(
            self,
            latent_rows=once(self.latent_rows),
            basis=maybe(self.basis),
            steps=steps,
            last=self.last.placed(put),
            out_rows=once(self.out_rows),
            scale=maybe(self.scale),
            mean=maybe(self.mean),
        )


def read_tensors(bundle: Path) -> dict[str, np.ndarray]:
    """The decoder's tensors of a bundle, by their names in the release, as FP32.

    Raises BundleError for a bundle without them.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(bundle / WEIGHTS, framework="np") as file:
            names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
            found = {name.removeprefix(PREFIX): file.get_tensor(name).astype(np.float32) for name in names}
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"file {WEIGHTS}", got=error, expected="a complete safetensors file", fix=AGAIN
        ) from error
    if not found:
        raise BundleError(
            "decoder weights for the kernels",
            got=f"no tensors {PREFIX}* in {WEIGHTS}",
            expected="a bundle written by this version of export",
            fix="export it again, or use the engine decoder",
        )
    return found


def make_plan(tensors: Tensors, hierarchy: Hierarchy) -> Plan:
    """Fold and order everything once. Raises BundleError for tensors that are missing or do not fit."""
    try:
        return _plan(tensors, hierarchy)
    except KeyError as error:
        raise BundleError("decoder weights", got=f"no tensor {error}", fix=AGAIN) from error
    except ValueError as error:
        raise BundleError(
            "decoder weights", got=error, expected="those of this hierarchy", fix=AGAIN
        ) from error


def _plan(tensors: Tensors, hierarchy: Hierarchy) -> Plan:
    blocks = _blocks(tensors)
    stages = len(blocks)
    if len(hierarchy.levels) <= stages:
        raise ValueError(f"{stages} stages and {len(hierarchy.levels)} levels")
    orders = local_orders(hierarchy, stages + 1)
    tokens = len(orders[stages])
    post = _linear(tensors, "post_kl")
    steps = [Step("post_kl", Graph.each(tokens), post.widened(), 0, 1, silu=False)]
    for stage in range(stages):
        steps += _stage(
            tensors, hierarchy, orders, stages - 1 - stage, stage, blocks[stage], steps[-1].target
        )
    head = _with_norm(_linear(tensors, "header.0.conv"), tensors, "header.0.gn")
    free = (steps[-1].target + 1) % SLOTS
    steps.append(Step("header", Graph.each(len(orders[0])), head, steps[-1].target, free))
    mean, scale = tensors.get("output_mean"), tensors.get("output_scale")
    last = _linear(tensors, "header.1")
    if mean is not None and mean.shape != (len(orders[0]), last.c_out):
        raise ValueError(f"output_mean {list(mean.shape)}")
    return Plan(
        (tokens, post.c_in),
        orders[stages].astype(np.int32),
        tensors.get("latent_basis"),
        tuple(steps),
        last,
        free,
        orders[0].astype(np.int32),
        scale,
        mean,
    )


def _stage(
    tensors: Tensors,
    hierarchy: Hierarchy,
    orders: list[np.ndarray],
    level: int,
    stage: int,
    blocks: int,
    source: int,
) -> Iterator[Step]:
    """Un-pool to `level`, then residual blocks there. `source`: the slot of the coarser level's features."""
    fine, cluster = hierarchy.levels[level], hierarchy.levels[level + 1].cluster
    # Vertex -> row of the coarser features: un-pooling is no more than this table.
    coarse = inverse(orders[level + 1])[cluster]
    pooled = Graph.of_level(fine, orders[level], coarse, len(orders[level + 1]))
    graph = Graph.of_level(fine, orders[level])
    unpooled_rows = coarse[orders[level]].astype(np.int32)
    for block in range(blocks):
        first = block == 0
        name = f"decoder.{stage}.resblks.{block}"
        middle, skip, target = ((source + i) % SLOTS for i in (1, 2, 3))
        yield Step(
            f"{name}.conv_a", pooled if first else graph, _conv(tensors, f"{name}.conv_a"), source, middle
        )
        kept, rows = source, unpooled_rows if first else None
        if f"{name}.skip.0.linear.weight" in tensors:
            # Before un-pooling there are fewer rows to multiply.
            layer = _with_norm(_linear(tensors, f"{name}.skip.0"), tensors, f"{name}.skip.1")
            here = Graph.each(pooled.inputs if first else graph.rows)
            yield Step(f"{name}.skip", here, layer, source, skip, silu=False)
            kept = skip
        yield Step(f"{name}.conv_b", graph, _conv(tensors, f"{name}.conv_b"), middle, target, kept, rows)
        source = target


def _blocks(tensors: Tensors) -> list[int]:
    """Residual blocks of each stage, read off the names."""
    found = sorted((int(m[1]), int(m[2])) for name in tensors if (m := _BLOCK.fullmatch(name)))
    counts = [
        sum(stage == s for stage, _ in found) for s in range(1 + max((s for s, _ in found), default=-1))
    ]
    if not counts or found != [(s, b) for s, count in enumerate(counts) for b in range(count)] or 0 in counts:
        raise ValueError(f"residual blocks {found}")
    return counts


def _conv(tensors: Tensors, name: str) -> Layer:
    weight = tensors[f"{name}.conv.conv.lin.weight"]
    layer = Layer(weight.reshape(-1, weight.shape[-1]), 2, tensors[f"{name}.conv.conv.lin.bias"])
    return _with_norm(layer, tensors, f"{name}.gn")


def _linear(tensors: Tensors, name: str) -> Layer:
    bias = tensors.get(f"{name}.linear.bias")
    return Layer(
        np.ascontiguousarray(tensors[f"{name}.linear.weight"].T), 1, None if bias is None else bias[None]
    )


def _with_norm(layer: Layer, tensors: Tensors, name: str) -> Layer:
    return Layer(layer.matrix, layer.types, layer.bias, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
