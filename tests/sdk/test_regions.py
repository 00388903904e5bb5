"""The check of an engine's axes passes for its own, and for no other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.sdk import regions
from tests.sdk.capi import PORTRAIT
from topos_rt import HeadPipeline
from topos_rt.head.mesh import HeadMesh

ENGINES = {"unity": regions.UNITY, "unreal": regions.UNREAL, "godot": regions.GODOT}


@pytest.fixture(scope="module")
def mesh() -> HeadMesh:
    with HeadPipeline.open("mini", "onnxruntime", threads=1) as pipe:
        return pipe(PORTRAIT, seed=3, steps=4, texture="none")


@pytest.mark.parametrize("name", ENGINES)
def test_one_of_all_ways_to_turn_axes_passes(mesh: HeadMesh, name: str) -> None:
    """Of 48 signed permutations of the axes and two sides of the triangles, only the engine's own pass."""
    engine, passed = ENGINES[name], []
    for order, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    ):
        for side in ((0, 1, 2), (0, 2, 1)):
            turned = [values[:, order] * signs for values in (mesh.positions, mesh.normals)]
            try:
                regions.check(engine, turned[0] * engine.unit, turned[1], mesh.triangles[:, side])
                passed.append((order, signs, side))
            except AssertionError:
                pass
    assert len(passed) == 1
    (order, signs, side) = passed[0]
    # glTF's left, up and ahead are +X, +Y and +Z.
    turn = np.eye(3)[:, order] * signs
    np.testing.assert_array_equal(turn, [engine.left, engine.up, engine.ahead])
    assert (side == (0, 2, 1)) == engine.clockwise
