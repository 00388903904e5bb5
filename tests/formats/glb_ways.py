"""One surface, stored in every way that glTF 2.0 has, and its reading."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.formats.glbs import Glb, plain
from tests.meshes import ball
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile
from topos_rt.formats.mesh_reader import read_mesh

HEAD = ball(rings=8, segments=12)
# Not symmetric: a transform that is forgotten shows.
POINTS = (HEAD.positions * [1.0, 1.4, 0.8] + [0.01, 0.02, 0.03]).astype(np.float32)
TRIANGLES = HEAD.triangles.astype(np.int64)
STEP = 0.2 / 32767  # metres: the step of the quantized files here
TURN = [0.5, 0.5, 0.5, 0.5]  # x to y to z to x


def read(path: Path, data: bytes | Glb, limits: Limits = LIMITS) -> MeshFile:
    file = path / "mesh.glb"
    file.write_bytes(data if isinstance(data, bytes) else data.bytes())
    return read_mesh(file, limits=limits)


def surface(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the corners of the triangles, [F,3,3], in an order that depends on the surface alone."""
    corners = np.asarray(positions, np.float64)[triangles].round(4) + 0.0
    turned = []
    for triangle in corners:
        first = min(range(3), key=lambda i: tuple(triangle[i]))
        turned.append(np.roll(triangle, -first, 0).ravel())
    table = np.array(turned)
    return table[np.lexsort(table.T[::-1])]


def assert_same(mesh: MeshFile, scale: float = 1.0) -> None:
    found, expected = mesh.positions, POINTS * scale
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2 * STEP
    assert np.array_equal(mesh.topology.triangles, TRIANGLES)


def as_floats() -> Glb:
    return plain(POINTS, TRIANGLES)


def quantized(dtype: str, normalized: bool, stride: int | None = None) -> Callable[[], Glb]:
    def make() -> Glb:
        glb, largest = plain(POINTS, TRIANGLES), np.iinfo(dtype).max
        signed = dtype.startswith("i")
        low, size = (np.zeros(3), 0.25) if signed else (POINTS.min(0), 0.4)
        whole = np.rint((POINTS - low) / size * largest).astype("<" + dtype)
        table = np.zeros((len(whole), 4 if stride else 3), whole.dtype)
        table[:, :3] = whole
        more = {"byteStride": table.strides[0]} if stride else {}
        accessor = glb.describe(whole) | {"bufferView": glb.view(table.tobytes(), **more)}
        primitive = glb.document["meshes"][0]["primitives"][0]
        primitive["attributes"]["POSITION"] = glb.accessor(**accessor, normalized=normalized)
        scale = size if normalized else size / largest
        glb.document["nodes"][0] |= {"scale": [scale] * 3, "translation": low.tolist()}
        glb.document["extensionsRequired"] = ["KHR_mesh_quantization"]
        return glb

    return make


def sparse(base: bool) -> Callable[[], Glb]:
    def make() -> Glb:
        glb, moved = Glb(), np.arange(0, len(POINTS), 2 if base else 1)
        before = np.where(np.isin(np.arange(len(POINTS)), moved)[:, None], 7, POINTS).astype("<f4")
        accessor = glb.describe(before) | {
            "sparse": {
                "count": len(moved),
                "indices": {"bufferView": glb.view(moved.astype("<u2").tobytes()), "componentType": 5123},
                "values": {"bufferView": glb.view(POINTS[moved].tobytes())},
            }
        }
        if base:
            accessor["bufferView"] = glb.view(before.tobytes())
        attributes = {"POSITION": glb.accessor(**accessor)}
        glb.mesh({"attributes": attributes, "indices": glb.add(TRIANGLES.astype("<u4").ravel())})
        return glb

    return make


def skinned(glb: Glb | None = None, stored: np.ndarray = POINTS) -> Glb:
    """Two joints hold the points; the node of the mesh is turned and scaled, which must not count."""
    glb = glb or plain(stored, TRIANGLES)
    joints = np.zeros((len(POINTS), 4), "<u1")
    joints[:, 1] = 1
    weights = np.zeros((len(POINTS), 4), "<f4")
    weights[:, 0] = np.linspace(0, 1, len(POINTS))
    weights[:, 1] = 1 - weights[:, 0]
    # Both joints undo their bind matrices: mesh space × 2, turned, is the world.
    world = np.eye(4)
    world[:3, :3] = 2 * np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    binds = np.stack([np.linalg.inv(world), np.linalg.inv(world)])
    primitive = glb.document["meshes"][0]["primitives"][0]
    primitive["attributes"] |= {"JOINTS_0": glb.add(joints), "WEIGHTS_0": glb.add(weights)}
    glb.document["skins"] = [
        {
            "joints": [1, 2],
            "inverseBindMatrices": glb.add(binds.transpose(0, 2, 1).reshape(2, 16).astype("<f4")),
        }
    ]
    glb.document["nodes"] = [
        {"mesh": 0, "skin": 0, "rotation": TURN, "scale": [5, 5, 5], "translation": [1, 2, 3]},
        {"children": [2], "rotation": TURN, "scale": [2, 2, 2]},
        {},
    ]
    glb.document["scenes"][0]["nodes"] = [0, 1]
    return glb


def morphed(where: str) -> Callable[[], Glb]:
    def make() -> Glb:
        offsets = np.stack([0.05 * np.sin(20 * POINTS), 0.03 * np.cos(9 * POINTS)]).astype("<f4")
        glb = plain(POINTS - 0.5 * offsets[0] + 0.25 * offsets[1], TRIANGLES)
        mesh = glb.document["meshes"][0]
        mesh["primitives"][0]["targets"] = [{"POSITION": glb.add(some)} for some in offsets]
        weights = [0.5, -0.25]
        if where == "mesh":
            mesh["weights"] = weights
        else:
            mesh["weights"] = [1.0, 1.0]
            glb.document["nodes"][0]["weights"] = weights
        return glb

    return make


def nested() -> Glb:
    """A chain of nodes with every kind of transform, whose product is the identity."""
    glb = plain(POINTS, TRIANGLES)
    turn = np.eye(4)
    turn[:3, :3] = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]  # undoes TURN
    turn[:3, 3] = [0.5, 0, 0]
    glb.document["nodes"] = [
        {"translation": [-0.5, 0, 0], "children": [1]},
        {"matrix": turn.T.ravel().tolist(), "children": [2]},
        {"rotation": TURN, "scale": [0.25, 0.25, 0.25], "children": [3]},
        {"scale": [4, 4, 4], "mesh": 0},
    ]
    return glb


def embedded() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    uri = "data:application/octet-stream;base64," + base64.b64encode(bytes(glb.data)).decode()
    glb.document["buffers"] = [{"uri": uri, "byteLength": len(glb.data)}]
    glb.data.clear()
    return glb


def without_a_scene() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    del glb.document["scene"], glb.document["scenes"]
    return glb


WAYS: dict[str, Callable[[], Glb]] = {
    "floats": as_floats,
    "normalized i2": quantized("i2", True),
    "normalized u2": quantized("u2", True),
    "i2 as they are": quantized("i2", False),
    "normalized i2 with padding": quantized("i2", True, 8),
    "sparse over zeros": sparse(False),
    "sparse over a base": sparse(True),
    "skinned": skinned,
    "weights of the mesh": morphed("mesh"),
    "weights of the node": morphed("node"),
    "nested nodes": nested,
    "a data URI": embedded,
    "no scene": without_a_scene,
}
