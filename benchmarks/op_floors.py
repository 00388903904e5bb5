"""The least that the decoder's launches must move and multiply, by arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topos_rt.gpu.layers import SLICES, Layer, padded
from topos_rt.gpu.tables import Neighbours, degrees
from topos_rt.model.decoder_steps import DecoderSteps

_HALF, _WIDE, _INDEX = 2, 4, 4  # bytes
_BLOCK_ROWS = {256: 128, 8: 128}  # by width, as in csrc/graph_conv.cu; all others take 64


@dataclass(frozen=True)
class Ceilings:
    """The most that a GPU can do."""

    tflops: float  # FP16 products, FP32 sums
    tbytes: float  # per second, of its memory


def decoder_floors(steps: DecoderSteps, ceilings: Ceilings) -> dict[str, Any]:
    """Return the floors of every launch of graph_conv, and of the whole decoder.

    The projection and the linear part, which multiply one vector, are not among them.

    mbytes counts each array once, as if all of it came from memory; features fit the L2 cache of large GPUs,
    so less may do. l2_mbytes is what graph_conv asks of the L2 cache, a row for every edge and the weights
    for every block. l2_mbytes_tiled is the same for graph_conv_tiled where that can run, and otherwise
    l2_mbytes. floor_us is the longer of multiplying and moving.
    """
    launches = [
        _launch(step.name, step.neighbours, step.layer, step.residual is not None, _HALF, ceilings)
        for step in steps.tiled().convs
    ]
    last = Neighbours.identity(steps.vertices)
    launches.append(_launch("header.1", last, steps.last, steps.mean is not None, _WIDE, ceilings))

    def total(key: str) -> float:
        return float(sum(row[key] for row in launches))

    keys = ("gflop", "mbytes", "l2_mbytes", "l2_mbytes_tiled", "floor_us", "gflop_per_edge")
    return {
        "ceilings": {"tflops": ceilings.tflops, "tbytes": ceilings.tbytes},
        "launches": launches,
        "decoder": {"launches": steps.launches} | {k: total(k) for k in keys},
    }


def _launch(
    name: str, neighbours: Neighbours, layer: Layer, residual: bool, out_bytes: int, ceilings: Ceilings
) -> dict[str, Any]:
    k, n = layer.types * layer.c_in, layer.c_out
    edges = [int(d.sum()) for d in degrees(neighbours)]
    tables = (
        sum(0 if t is None else len(t) for s in neighbours.types for t in (s.offsets, s.indices)) * _INDEX
    )
    weights, outputs = k * n * _HALF, neighbours.rows * n * out_bytes
    more = neighbours.rows * n * _HALF * residual
    moved = neighbours.inputs * layer.c_in * _HALF + tables + weights + outputs + more
    gathered = sum(edges) * layer.c_in * _HALF
    blocks = -(-neighbours.rows // _BLOCK_ROWS.get(padded(n), 64))
    l2 = gathered + tables + blocks * weights + outputs + more
    tiles, reads, l2_tiled = neighbours.tiles if layer.tileable else None, None, l2
    if tiles is not None:
        slices, count, reads = n // SLICES[n], len(tiles.tables), tiles.reads
        staged = reads * layer.c_in * _HALF
        l2_tiled = slices * (staged + tiles.tables.nbytes) + count * weights + outputs + more
    flop = 2.0 * neighbours.rows * k * n
    multiply, move = flop / ceilings.tflops / 1e6, moved / ceilings.tbytes / 1e6
    return {
        "name": name,
        "rows": neighbours.rows,
        "k": k,
        "n": n,
        "edges": edges,
        "tile_reads": reads,
        "gflop": flop / 1e9,
        "gflop_per_edge": 2e-9 * sum(edges) * layer.c_in * n,
        "mbytes": moved / 1e6,
        "l2_mbytes": l2 / 1e6,
        "l2_mbytes_tiled": l2_tiled / 1e6,
        "multiply_us": multiply,
        "move_us": move,
        "floor_us": max(multiply, move),
        "bound": "products" if multiply > move else "memory",
    }
