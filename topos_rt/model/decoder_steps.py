"""The VAE decoder as a sequence of kernel launches, made from named tensors and a hierarchy.

Source of the network: TOPOS (arXiv 2605.14594), `models/vae.py`, whose names the tensors carry.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.gpu.layers import Layer, padded
from topos_rt.gpu.tables import MAX_TYPES, AnyArray, Neighbours, Put, inverse, local_order
from topos_rt.head.hierarchy import Hierarchy, Level
from topos_rt.model.bundle import Bundle
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors as read_tensor_file

Tensors: TypeAlias = Mapping[str, np.ndarray]
Order: TypeAlias = Callable[[np.ndarray], np.ndarray]
PREFIX = "decoder."  # of the tensors' names in a bundle's weights
_MOVED = 3  # columns that the linear part moves: positions
SLOTS = 4  # buffers of features: the input of a block, its middle, its skip, its output
_BLOCK = re.compile(r"decoder\.(\d+)\.resblks\.(\d+)\.conv_a\.gn\.weight")


@dataclass(frozen=True, eq=False)
class Step:
    """One launch of graph_conv. Its source, target and residual are numbers of slots."""

    name: str
    neighbours: Neighbours
    layer: Layer
    source: int
    target: int
    residual: int | None = None
    residual_rows: AnyArray | None = None
    silu: bool = True

    @property
    def by_tiles(self) -> bool:
        """Whether graph_conv_tiled can run it; see `DecoderSteps.tiled`."""
        return self.layer.tileable and self.neighbours.tiles is not None


@dataclass(frozen=True, eq=False)
class DecoderSteps:
    """All launches of a decoder, in order, with the arrays that they read.

    First the latent is projected on `basis` (if there is one) and packed, then come the graph convolutions,
    and then `last` with the arguments of `topos_rt.gpu.ops.linear_out`, for whose mean the coordinates on
    `basis` move `mean` by `moves` (if there are any).
    """

    latent: tuple[int, int]  # [N,D]
    latent_rows: AnyArray  # [N] int32 latent token that each row is
    basis: AnyArray | None  # [K, N*D]
    moves: AnyArray | None  # [K,V,3]; there is a basis and a mean, too
    convs: tuple[Step, ...]
    last: Layer
    last_source: int  # slot
    out_rows: AnyArray  # [V] int32 vertex that each row is
    scale: AnyArray | None  # [6]
    mean: AnyArray | None  # [V,6]

    @property
    def vertices(self) -> int:
        return len(self.out_rows)

    @property
    def launches(self) -> int:
        """How many kernels one run launches: packing, convolutions, the last layer; projection and moves."""
        return len(self.convs) + 2 + 2 * (self.basis is not None) + (self.moves is not None)

    def slot_sizes(self) -> list[int]:
        """Return how many numbers each slot must hold."""
        sizes = [0] * SLOTS
        sizes[0] = self.latent[0] * padded(self.latent[1])
        for step in self.convs:
            sizes[step.target] = max(sizes[step.target], step.neighbours.rows * step.layer.c_out)
        return sizes

    def tiled(self) -> DecoderSteps:
        """Return a copy whose gather tables have tiles wherever graph_conv_tiled can run.

        Steps that share a gather table still share it afterwards.
        """
        unique = {id(step.neighbours): step.neighbours for step in self.convs}
        tiled = {key: neighbours.tiled() for key, neighbours in unique.items()}
        convs = (dataclasses.replace(step, neighbours=tiled[id(step.neighbours)]) for step in self.convs)
        return dataclasses.replace(self, convs=tuple(convs))

    def placed(self, put: Put) -> DecoderSteps:
        """Return a copy with every array on a device; what several steps share is uploaded once."""
        seen: dict[int, tuple[np.ndarray, AnyArray]] = {}  # keeps the array, or another could get its id

        def once(array: np.ndarray) -> AnyArray:
            if id(array) not in seen:
                seen[id(array)] = array, put(array)
            return seen[id(array)][1]

        def maybe(array: AnyArray | None) -> AnyArray | None:
            return None if array is None else once(array)

        placed = {id(step.neighbours): step.neighbours.placed(once) for step in self.convs}
        convs = tuple(
            dataclasses.replace(
                step,
                neighbours=placed[id(step.neighbours)],
                layer=step.layer.placed(put, step.by_tiles),
                residual_rows=maybe(step.residual_rows),
            )
            for step in self.convs
        )
        return dataclasses.replace(
            self,
            latent_rows=once(self.latent_rows),
            basis=maybe(self.basis),
            moves=maybe(self.moves),
            convs=convs,
            last=self.last.placed(put),
            out_rows=once(self.out_rows),
            scale=maybe(self.scale),
            mean=maybe(self.mean),
        )


def read_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Read the decoder's tensors of a bundle, by their names in the release, as FP32.

    Raises BundleError for a bundle without them.
    """
    weights = bundle.weights(bundle.graph("vae_decoder"))
    tensors = {} if weights is None else read_tensor_file(weights, PREFIX)[0]
    found = {name.removeprefix(PREFIX): array.astype(np.float32) for name, array in tensors.items()}
    if not found:
        raise BundleError(
            "decoder weights for the kernels",
            got=f"no tensors {PREFIX}*",
            expected="a bundle written by this version of export",
            fix="export it again, or use the engine decoder",
        )
    return found


def make_steps(tensors: Tensors, hierarchy: Hierarchy, order: Order = local_order) -> DecoderSteps:
    """Fold and order everything once.

    order: takes positions [n,3] of the vertices of a level and returns the vertex [n] that each row is.
    Raises BundleError for tensors that are missing or do not fit.
    """
    try:
        return _steps(tensors, hierarchy, order)
    except KeyError as error:
        raise BundleError("decoder weights", got=f"no tensor {error}", fix=AGAIN) from error
    except ValueError as error:
        raise BundleError(
            "decoder weights",
            got=getattr(error, "brief", error),
            expected="those of this hierarchy",
            fix=AGAIN,
        ) from error


def _steps(tensors: Tensors, hierarchy: Hierarchy, order: Order) -> DecoderSteps:
    blocks = _blocks(tensors)
    stages = len(blocks)
    if len(hierarchy.levels) <= stages:
        raise ValueError(f"{stages} stages and {len(hierarchy.levels)} levels")
    orders = [order(level.features[:, :3]) for level in hierarchy.levels[: stages + 1]]
    tokens, vertices = len(orders[stages]), len(orders[0])
    post = _linear(tensors, "post_kl")
    convs = [Step("post_kl", Neighbours.identity(tokens), post.widened(), 0, 1, silu=False)]
    for stage in range(stages):
        level = stages - 1 - stage
        convs += _stage(tensors, hierarchy, orders, level, stage, blocks[stage], convs[-1].target)
    head = _with_norm(_linear(tensors, "header.0.conv"), tensors, "header.0.gn")
    free = (convs[-1].target + 1) % SLOTS
    convs.append(Step("header", Neighbours.identity(vertices), head, convs[-1].target, free))
    mean, scale = tensors.get("output_mean"), tensors.get("output_scale")
    last = _linear(tensors, "header.1")
    if mean is not None and mean.shape != (vertices, last.c_out):
        raise ValueError(f"output_mean {list(mean.shape)}")
    basis, moves = tensors.get("latent_basis"), tensors.get("linear_vertices")
    if moves is not None and (basis is None or mean is None or moves.shape != (len(basis), vertices, _MOVED)):
        raise ValueError(f"linear_vertices {list(moves.shape)}")
    return DecoderSteps(
        latent=(tokens, post.c_in),
        latent_rows=orders[stages].astype(np.int32),
        basis=basis,
        moves=moves,
        convs=tuple(convs),
        last=last,
        last_source=free,
        out_rows=orders[0].astype(np.int32),
        scale=scale,
        mean=mean,
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
    """Un-pool to `level`, then do residual blocks there. source: the slot of the coarser level's features."""
    fine, cluster = hierarchy.levels[level], hierarchy.levels[level + 1].cluster
    # From vertex to row of the coarser features: un-pooling is nothing but this table.
    coarse = inverse(orders[level + 1])[cluster]
    pooled = level_neighbours(fine, orders[level], coarse, len(orders[level + 1]))
    neighbours = level_neighbours(fine, orders[level])
    unpooled_rows = coarse[orders[level]].astype(np.int32)
    for block in range(blocks):
        first = block == 0
        name = f"decoder.{stage}.resblks.{block}"
        middle, skip, target = ((source + i) % SLOTS for i in (1, 2, 3))
        conv_a, conv_b = (_conv(tensors, f"{name}.{conv}") for conv in ("conv_a", "conv_b"))
        yield Step(f"{name}.conv_a", pooled if first else neighbours, conv_a, source, middle)
        kept, rows = source, unpooled_rows if first else None
        if f"{name}.skip.0.linear.weight" in tensors:
            # It runs before un-pooling, where there are fewer rows to multiply.
            layer = _with_norm(_linear(tensors, f"{name}.skip.0"), tensors, f"{name}.skip.1")
            here = Neighbours.identity(pooled.inputs if first else neighbours.rows)
            yield Step(f"{name}.skip", here, layer, source, skip, silu=False)
            kept = skip
        yield Step(f"{name}.conv_b", neighbours, conv_b, middle, target, kept, rows)
        source = target


def level_neighbours(
    level: Level, order: np.ndarray, to_input: np.ndarray | None = None, inputs: int | None = None
) -> Neighbours:
    """Build the gather table of the typed edges of one level.

    order: [n] the vertex that each row of the output is. to_input: [n] the row of x with a vertex's features;
    None: x is in the order of the output. inputs: rows of x; None: n. For features before un-pooling,
    `to_input` goes through `cluster`.
    """
    n, rows = len(order), inverse(order)
    to_input = rows if to_input is None else to_input
    ends = (level.edges[level.types == kind].T for kind in range(MAX_TYPES))
    edges = [(to_input[source], rows[target]) for source, target in ends]
    return Neighbours.from_edges(n, n if inputs is None else inputs, edges)


def _blocks(tensors: Tensors) -> list[int]:
    """Return how many residual blocks each stage has, by the tensors' names."""
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
