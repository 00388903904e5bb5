"""Small heads for tests. `python -m tests.meshes` rewrites the golden files of the exporters."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import Binding, Rig
from topos_rt.head.topology import Topology

DATA = Path(__file__).parent / "data"
METADATA = {"seed": 7, "model": "cube", "weights": "none: a cube"}

# The bits of i are the coordinates of corner i: x 1, y 2, z 4.
CORNERS = np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)], np.float32) - np.float32(0.5)
QUADS = [[4, 5, 7, 6], [5, 1, 3, 7], [1, 0, 2, 3], [0, 4, 6, 2], [6, 7, 3, 2], [0, 1, 5, 4]]
# A strip of four sides (five columns of two), then the further corners of the lid and the floor.
STRIP = [[column / 4, row / 3] for column in range(5) for row in (1, 2)]
LIDS = [[0.0, 1.0], [0.25, 1.0], [0.0, 0.0], [0.25, 0.0]]
QUAD_UVS = [[0, 2, 3, 1], [2, 4, 5, 3], [4, 6, 7, 5], [6, 8, 9, 7], [1, 3, 11, 10], [12, 13, 2, 0]]

# The heights of two rows of vertices of a ball.
SLIT = tuple(0.1 * np.cos(np.pi * row / 24) for row in (10, 14))


def cube_topology(uvs: bool = True) -> Topology:
    if not uvs:
        return Topology.from_polygons(8, QUADS)
    return Topology.from_polygons(8, QUADS, np.array(STRIP + LIDS, np.float32), QUAD_UVS)


def cube_rig() -> Rig:
    """Return a rig of one joint, with shapes that lift the top, do nothing and move every vertex."""
    return Rig(
        joint_names=("head",),
        joint_parents=np.array([-1]),
        joint_positions=np.zeros((1, 3), np.float32),
        skin_joints=np.zeros((8, 4), np.uint16),
        skin_weights=np.tile(np.float32([1, 0, 0, 0]), (8, 1)),
        shape_names=("jawOpen", "tongueOut", "mouthRight"),
        shape_index=np.array([2, 3, 6, 7, *range(8)]),
        shape_delta=np.float32([[0, 0.1, 0]] * 4 + [[0.2, 0, -0.3]] * 8),
        shape_offsets=np.array([0, 4, 4, 12]),
    )


def cube(*, uvs: bool = True, rig: bool = False, topology: Topology | None = None) -> HeadMesh:
    """Return a cube of 1 m around the origin."""
    normals = np.sign(CORNERS) * np.float32(3**-0.5)
    return HeadMesh(CORNERS, normals, topology or cube_topology(uvs), cube_rig() if rig else None, METADATA)


def ball(rings: int = 24, segments: int = 32, radius: float = 0.1) -> HeadMesh:
    """Return a sphere of quads and triangles."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    around = np.arange(segments) * (2 * np.pi / segments)
    x, y, z = np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around, np.sin(polar) * np.cos(around)
    points = np.concatenate([np.stack([x, y, z], -1).reshape(-1, 3), [[0, 1, 0], [0, -1, 0]]])
    top, bottom, last = len(points) - 2, len(points) - 1, (rings - 2) * segments
    polygons: list[list[int]] = []
    for j in range(segments):
        k = (j + 1) % segments
        rows = pairwise(row * segments for row in range(rings - 1))
        polygons += [[low + j, low + k, high + k, high + j] for high, low in rows]
        polygons += [[top, j, k], [bottom, last + k, last + j]]
    topology = Topology.from_polygons(len(points), polygons)
    return HeadMesh(points * radius, vertex_normals(points, topology.triangles), topology)


def ball_rig(parts: bool = True) -> Rig:
    """Return a rig for `ball()`, with joints in the middle and near the top.

    Its shapes turn a cap in one piece, close a slit between two rows of vertices, and swell everything.
    """
    head = ball()
    points = head.positions.astype(np.float64)
    cap = points[:, 1] > 0.07
    half = np.radians(20)
    turn = np.array([[np.cos(half), 0, np.sin(half)], [0, 1, 0], [-np.sin(half), 0, np.cos(half)]])
    above, below = (np.flatnonzero(np.isclose(points[:, 1], y) & (points[:, 2] > 0)) for y in SLIT)
    middle = (points[above] + points[below]) / 2
    shapes = np.zeros((3, len(points), 3))
    shapes[0, cap] = points[cap] @ turn.T - points[cap]
    shapes[1, above], shapes[1, below] = middle - points[above], middle - points[below]
    shapes[2] = points * 0.1
    # all vertices of the part are listed, even the pole, which stays where it is
    moved = [np.flatnonzero(cap), np.flatnonzero(shapes[1].any(1)), np.arange(len(points))]
    counts = [len(points), np.count_nonzero(cap)]
    binding = Binding(
        template=points,
        joint_index=np.concatenate([np.arange(len(points)), np.flatnonzero(cap)]),
        joint_weight=np.repeat(1 / np.array(counts), counts),
        joint_offsets=np.cumsum([0, *counts]),
        contact_pairs=np.stack([above, below], 1),
        contact_offsets=np.array([0, 0, len(above), len(above)]),
        parts=(cap & parts).astype(np.uint8),
    )
    skin = np.tile(np.float32([1, 0, 0, 0]), (len(points), 1))
    skin[cap] = [0.25, 0.75, 0, 0]
    skin_joints = np.tile(np.uint16([0, 1, 0, 0]), (len(points), 1))
    return Rig(
        joint_names=("head", "cap"),
        joint_parents=np.array([-1, 0]),
        joint_positions=binding.joints(points),
        skin_joints=skin_joints,
        skin_weights=skin,
        shape_names=("turn", "close", "swell"),
        shape_index=np.concatenate(moved),
        shape_delta=np.concatenate([shape[ids] for shape, ids in zip(shapes, moved, strict=True)]),
        shape_offsets=np.cumsum([0, *map(len, moved)]),
        binding=binding,
    )


def bundled_head() -> HeadMesh:
    """Return the template of the bundled model, with its rig."""
    from topos_rt.model.bundle import Bundle

    bundle = Bundle.open("mini", verify=False)
    template = bundle.hierarchy.levels[0].features.astype(np.float64)
    normals = template[:, 3:] / np.linalg.norm(template[:, 3:], axis=1, keepdims=True)
    told = {"weights": "none: the template head"}
    return HeadMesh(template[:, :3] * 0.139, normals, bundle.topology, bundle.rig, told)


if __name__ == "__main__":
    from topos_rt.formats import write_glb, write_obj

    DATA.mkdir(exist_ok=True)
    (DATA / "cube.glb").write_bytes(write_glb(cube(rig=True)))
    (DATA / "cube.obj").write_bytes(write_obj(cube()))
