"""The PTX of csrc/, run instruction by instruction, is right and has nothing for compute-sanitizer to find.

`tests.ptx.memory` and `tests.ptx.tensor` judge every access, barrier, copy in the background and wgmma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.gpu import (
    test_flow_step,
    test_graph_conv,
    test_graph_conv_tiled,
    test_pack_rows,
    test_project_texture,
)
from tests.gpu.shapes import features, random_layer, random_neighbours
from tests.gpu.test_graph_conv_tiled import neighbours_of
from tests.ptx.device import Machine
from topos_rt.gpu.layers import SLICES, WIDTHS

CASES: dict[str, Callable[[Any], None]] = {
    "pack_rows": lambda arena: test_pack_rows.test_rows_in_another_order(arena, 37, 6),
    "project": lambda arena: test_pack_rows.test_projection(arena, 5, 129),
    "linear_out": lambda arena: test_pack_rows.test_linear_out(arena, 130, 6, True),
    "project_texture": lambda arena: test_project_texture.test_projection_on_a_device(arena, 127),
    "finish_texture": lambda arena: test_project_texture.test_finishing_on_a_device(arena, 2, True),
    "flow_step": lambda arena: test_flow_step.test_steps(arena, 257, 4, False),
    "a step outside": lambda arena: test_flow_step.test_a_step_outside_changes_nothing(arena, 3),
    "one type": lambda arena: test_graph_conv.test_one_type_is_a_linear_layer(arena, "itself"),
    "no neighbours": test_graph_conv.test_no_neighbours_anywhere,
    "one large degree": test_graph_conv.test_one_large_degree,
    "a large mean": test_graph_conv.test_large_and_small_values_through_the_norm,
    "tiles, itself": lambda arena: test_graph_conv_tiled.test_type_one_in_every_form(arena, "itself"),
    "tiles, single": lambda arena: test_graph_conv_tiled.test_type_one_in_every_form(arena, "single"),
    "a full tile": test_graph_conv_tiled.test_as_many_sources_as_a_tile_holds,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ops(arena: Any, case: str) -> None:
    CASES[case](arena)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("width", WIDTHS)
def test_graph_conv_of_every_width(arena: Any, machine: Machine, width: int, architecture: str) -> None:
    machine.architecture = architecture
    rng = np.random.default_rng(width)
    rows, inputs = 67, 40
    more = features(rng, 9, width), rng.integers(0, 9, rows).astype(np.int32)
    layer = random_layer(rng, 40, width, norm=width > 8)
    test_graph_conv.compare(
        arena, features(rng, inputs, 40), random_neighbours(rng, rows, inputs), layer, *more
    )
    assert machine.launches[-1].counts["flop"] >= 2 * rows * 80 * width


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize("width", SLICES)
def test_hoppers_kernel_of_every_width(arena: Any, machine: Machine, width: int, types: int) -> None:
    rng = np.random.default_rng([width, types])
    rows, inputs = 195, 40
    more = features(rng, 9, width), rng.integers(0, 9, rows).astype(np.int32)
    neighbours, layer = neighbours_of(rng, rows, inputs, types), random_layer(rng, 128, width, types)
    test_graph_conv_tiled.compare(arena, features(rng, inputs, 128), neighbours, layer, *more)
    weights = 2 * 384 * (128 * types + 16) * width  # with the biases
    sums = 2 * 16 * 16 * 128 * int(neighbours.tiles.tables["steps"].sum()) * (width // SLICES[width])
    assert machine.launches[-1].counts["flop"] == weights + sums


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("width", [48, 128])
def test_the_same_bits_in_any_order_of_warps(arena: Any, machine: Machine, width: int, order: str) -> None:
    rng = np.random.default_rng(width)
    x, neighbours, layer = features(rng, 30, 64), neighbours_of(rng, 70, 30), random_layer(rng, 64, width)
    runs = [test_graph_conv.run, *([test_graph_conv_tiled.run] if width in SLICES else [])]
    together = [run(arena, x, neighbours, layer) for run in runs]
    machine.order = order
    for run, want in zip(runs, together, strict=True):
        assert np.array_equal(run(arena, x, neighbours, layer), want)
