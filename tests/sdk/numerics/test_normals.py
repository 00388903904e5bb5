"""Normals, tangents and places of the C++ numerics against Python's, bit for bit."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meshes import ball, bundled_head, cube
from tests.part_heads import dressed
from tests.sdk.numerics.calls import call
from topos_rt.formats.seams import split_seams
from topos_rt.formats.textures import tangents
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors, vertex_normals
from topos_rt.model.frame import place
from topos_rt.model.manifest import FrameSpec

HEADS = {"cube": cube, "ball": ball, "mini": bundled_head, "laid": dressed}
ODD = [0.0, -0.0, 1.0, -3.5, 1e-310, 1e300, np.inf, -np.inf, np.nan]


def normals(lib: ctypes.CDLL, positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    out = np.empty((len(positions), 3), np.float32)
    name = "vertex_normals" if positions.dtype == np.float32 else "vertex_normals_wide"
    call(lib, name, positions, len(positions), np.ascontiguousarray(triangles), len(triangles), out)
    return out


def test_unit_vectors_with_odd_values(lib: ctypes.CDLL) -> None:
    rows = np.array(list(itertools.product(ODD, repeat=3)))
    out = np.empty((len(rows), 3), np.float32)
    call(lib, "unit_vectors", rows, len(rows), out)
    assert out.tobytes() == unit_vectors(rows).tobytes()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("wide", [False, True])
def test_vertex_normals_of_heads(lib: ctypes.CDLL, name: str, wide: bool) -> None:
    mesh = HEADS[name]()
    moved = mesh.positions + np.random.default_rng(1).normal(0, 1e-3, mesh.positions.shape)
    positions = moved.astype(np.float64 if wide else np.float32)
    got = normals(lib, positions, mesh.triangles)
    assert got.tobytes() == vertex_normals(positions, mesh.triangles).tobytes()


@given(st.integers(1, 40), st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_vertex_normals_of_anything(lib: ctypes.CDLL, n: int, f: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, 1, (n, 3)).astype(np.float32)
    positions[rng.random(n) < 0.2] = 0
    triangles = rng.integers(0, n, (f, 3)).astype(np.int32)  # some without area, some vertices unused
    assert normals(lib, positions, triangles).tobytes() == vertex_normals(positions, triangles).tobytes()


def check_tangents(
    lib: ctypes.CDLL, positions: np.ndarray, ways: np.ndarray, uvs: np.ndarray, triangles: np.ndarray
) -> None:
    got = np.empty((len(positions), 4), np.float32)
    call(lib, "tangents", positions, ways, uvs, len(positions), triangles, len(triangles), got)
    assert got.tobytes() == tangents(positions, ways, uvs, triangles).tobytes()


@pytest.mark.parametrize("name", ["cube", "mini", "laid"])
def test_tangents_of_heads(lib: ctypes.CDLL, name: str) -> None:
    mesh: HeadMesh = HEADS[name]()
    split = split_seams(mesh.topology)
    uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
    check_tangents(lib, mesh.positions[split.source], mesh.normals[split.source], uvs, split.triangles)


@given(st.integers(1, 40), st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_tangents_of_anything(lib: ctypes.CDLL, n: int, f: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, 1, (n, 3)).astype(np.float32)
    ways = unit_vectors(np.where(rng.random((n, 1)) < 0.2, [1.0, 0, 0], rng.normal(0, 1, (n, 3))))
    uvs = (rng.integers(0, 5, (n, 2)) / 4).astype(np.float32)
    check_tangents(lib, positions, ways, uvs, rng.integers(0, n, (f, 3)).astype(np.int32))


@pytest.mark.parametrize(("up", "forward"), [("+y", "+z"), ("+z", "-y"), ("-x", "+y"), ("-z", "-x")])
def test_placed_heads(lib: ctypes.CDLL, up: str, forward: str) -> None:
    mesh, frame, rng = bundled_head(), FrameSpec(up, forward, 0.1389), np.random.default_rng(3)
    vertices = rng.normal(0, 1, (len(mesh.positions), 6)).astype(np.float32)
    vertices[rng.random(vertices.shape) < 0.05] = 0
    vertices[rng.random(vertices.shape) < 0.05] = -0.0
    want = place(vertices, frame, mesh.topology)
    got, ways = (np.empty((len(vertices), 3), np.float32) for _ in range(2))
    rotation = np.ascontiguousarray(frame.rotation)
    call(lib, "place", vertices, len(vertices), rotation, frame.radius_m, got, ways)
    assert got.tobytes() == want.positions.tobytes()
    assert ways.tobytes() == want.normals.tobytes()
