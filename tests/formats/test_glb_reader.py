"""GLB: every way in which glTF 2.0 stores a surface gives that surface, and no declared size is believed."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.formats.glbs import Glb, container, plain
from tests.meshes import ball
from topos_rt.errors import MeshInputError, MissingExtraError, OptionError
from topos_rt.formats import gltf_codecs
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


# ---- one surface, stored in many ways ----


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


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_the_same_surface_however_it_is_stored(make: Callable[[], Glb], tmp_path: Path) -> None:
    mesh = read(tmp_path, make())
    assert_same(mesh)
    assert mesh.notes == ()


def test_eight_bits_are_normalized_by_127_and_never_below_minus_one(tmp_path: Path) -> None:
    whole = np.array([[127, 0, 0], [-127, 127, 0], [-128, 0, 127], [0, 0, 0]], "<i1")
    glb = plain(whole, np.array([[0, 1, 2], [0, 2, 3]]))
    glb.document["accessors"][0] = glb.describe(whole) | {
        "bufferView": glb.view(whole.tobytes()),
        "normalized": True,
    }
    assert read(tmp_path, glb).positions.tolist() == [[1, 0, 0], [-1, 1, 0], [-1, 0, 1], [0, 0, 0]]


def test_skins_in_two_sets_of_joints_and_of_bytes(tmp_path: Path) -> None:
    glb = skinned()
    primitive = glb.document["meshes"][0]["primitives"][0]
    ones = np.zeros((len(POINTS), 4), "<u1")
    ones[:, 0] = 255
    primitive["attributes"] |= {
        "WEIGHTS_0": glb.add(ones, normalized=True),
        "JOINTS_1": glb.add(np.ones((len(POINTS), 4), "<u2")),
        "WEIGHTS_1": glb.add(ones, normalized=True),
    }
    assert_same(read(tmp_path, glb))


def test_vertices_that_no_joint_holds_stay(tmp_path: Path) -> None:
    glb = skinned()
    primitive = glb.document["meshes"][0]["primitives"][0]
    primitive["attributes"]["WEIGHTS_0"] = glb.add(np.zeros((len(POINTS), 4), "<f4"))
    assert_same(read(tmp_path, glb))


def test_quantized_and_skinned(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    whole = np.rint(POINTS / 0.25 * 32767).astype("<i2")
    glb.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = glb.add(whole, normalized=True)
    skinned(glb)
    binds = np.diag([0.25, 0.25, 0.25, 1])  # what undoes the quantization is in the bind matrices
    world = np.eye(4)
    world[:3, :3] = 2 * np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    both = np.stack([np.linalg.inv(world) @ binds] * 2).transpose(0, 2, 1).reshape(2, 16)
    glb.document["skins"][0]["inverseBindMatrices"] = glb.add(both.astype("<f4"))
    assert_same(read(tmp_path, glb))


def as_strip(triangles: np.ndarray) -> np.ndarray:
    """Return one strip of all triangles, joined by degenerate ones."""
    strip: list[int] = []
    for a, b, c in triangles.tolist():
        strip += [] if not strip else [strip[-1], a] if len(strip) % 2 == 0 else [strip[-1], a, a]
        strip += [a, b, c]
    return np.array(strip)


def test_strips_and_fans_with_degenerate_triangles(tmp_path: Path) -> None:
    strip = as_strip(TRIANGLES)
    mesh = read(tmp_path, plain(POINTS, strip, mode=5))
    assert np.array_equal(surface(POINTS, mesh.topology.triangles), surface(POINTS, TRIANGLES))
    assert mesh.notes == ()
    rim = np.array([[np.cos(a), np.sin(a), 0] for a in np.linspace(0, 6, 7)])
    fan = np.array([0, 1, 2, 3, 3, 4, 5, 6])
    mesh = read(tmp_path, plain(rim, fan, mode=6))
    expected = [[0, i, i + 1] for i in range(1, 6)]
    assert np.array_equal(surface(rim, mesh.topology.triangles), surface(rim, np.array(expected)))


def test_without_indices_the_vertices_count_in_order(tmp_path: Path) -> None:
    glb = plain(POINTS[TRIANGLES].reshape(-1, 3), TRIANGLES)
    del glb.document["meshes"][0]["primitives"][0]["indices"]
    mesh = read(tmp_path, glb)
    assert np.array_equal(surface(mesh.positions, mesh.topology.triangles), surface(POINTS, TRIANGLES))


def test_points_and_lines_are_named_and_left_out(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    attributes = glb.document["meshes"][0]["primitives"][0]["attributes"]
    glb.document["meshes"][0]["primitives"] += [
        {"attributes": attributes, "mode": 0},
        {"attributes": attributes, "mode": 1},
        {"attributes": attributes, "mode": 3},
    ]
    mesh = read(tmp_path, glb)
    assert_same(mesh)
    assert mesh.notes == ("1 primitives of points left out", "2 primitives of lines left out")
    with pytest.raises(MeshInputError, match=r"got no polygons \(1 primitives of points left out\)"):
        read(tmp_path, plain(POINTS, TRIANGLES, mode=0))


def test_triangles_with_a_repeated_corner_are_left_out_and_counted(tmp_path: Path) -> None:
    more = np.concatenate([TRIANGLES, [[1, 1, 2], [3, 4, 3]]])
    mesh = read(tmp_path, plain(POINTS, more))
    assert_same(mesh)
    assert mesh.notes == ("2 polygons without three different corners left out",)


def test_instances_and_mirrors_face_outwards(tmp_path: Path) -> None:
    glb = plain(HEAD.positions, TRIANGLES)
    normals = glb.add(HEAD.normals.astype("<f4"))
    glb.document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"] = normals
    glb.document["nodes"] = [{"mesh": 0}, {"mesh": 0, "scale": [-2, 1, 0.5], "translation": [5, 0, 0]}]
    glb.document["scenes"][0]["nodes"] = [0, 1]
    mesh = read(tmp_path, glb)
    count = len(HEAD.positions)
    assert mesh.positions[count:] == pytest.approx(HEAD.positions * [-2, 1, 0.5] + [5, 0, 0], abs=1e-6)
    corners = mesh.positions[mesh.topology.triangles]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middles = np.where(np.arange(len(corners))[:, None] < len(TRIANGLES), [0, 0, 0], [5, 0, 0])
    assert ((corners.mean(1) - middles) * crosses).sum(1).min() > 0
    assert mesh.normals is not None
    outwards = mesh.positions - np.where(np.arange(2 * count)[:, None] < count, [0, 0, 0], [5, 0, 0])
    assert (mesh.normals * outwards).sum(1).min() > 0


def test_only_the_scene_counts(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["nodes"].append({"mesh": 0, "translation": [9, 9, 9]})
    assert_same(read(tmp_path, glb))
    glb = plain(POINTS, TRIANGLES)
    glb.document["scenes"].insert(0, {"nodes": []})
    with pytest.raises(MeshInputError, match="no polygons"):
        read(tmp_path, glb)
    glb.document["scene"] = 1
    assert_same(read(tmp_path, glb))


# ---- compression ----


def draco_bytes(extra: str = "KHR_draco_mesh_compression") -> Glb:
    packer = needs.module("DracoPy")
    glb = Glb()
    data = packer.encode(POINTS, TRIANGLES.astype(np.uint32), quantization_bits=16)
    position = glb.accessor(componentType=5126, count=len(POINTS), type="VEC3")
    corners = glb.accessor(componentType=5123, count=TRIANGLES.size, type="SCALAR")
    packed = {"bufferView": glb.view(data), "attributes": {"POSITION": 0}}
    glb.mesh({"attributes": {"POSITION": position}, "indices": corners, "extensions": {extra: packed}})
    glb.document["extensionsRequired"] = [extra]
    return glb


def test_draco(tmp_path: Path) -> None:
    mesh = read(tmp_path, draco_bytes())
    tree = np.linalg.norm(mesh.positions[:, None] - POINTS[None], axis=2)
    assert tree.min(1).max() < 2e-5 and tree.min(0).max() < 2e-5
    same = tree.argmin(1)[mesh.topology.triangles]
    assert np.array_equal(surface(POINTS, same), surface(POINTS, TRIANGLES))


def test_draco_data_is_not_believed(tmp_path: Path) -> None:
    glb = draco_bytes()
    glb.document["accessors"][0]["count"] -= 1
    with pytest.raises(MeshInputError, match=r"vertices and \d+ triangles where"):
        read(tmp_path, glb)
    for place, byte in ((5, 1), (7, 0), (10, 0x80), (30, 0xFF), (60, 0xFF)):
        glb = draco_bytes()
        glb.data[place] = byte
        try:
            read(tmp_path, glb)
        except MeshInputError as error:
            assert "damaged contents" in str(error) or "finite" in str(error)


def meshopt_bytes(mode: str = "TRIANGLES", extension: str = "EXT_meshopt_compression") -> Glb:
    packer = needs.module("meshoptimizer")
    glb = Glb()
    rows = np.zeros((len(POINTS), 4), "<i2")
    rows[:, :3] = np.rint(POINTS / 0.25 * 32767)
    corners = np.ascontiguousarray(TRIANGLES.ravel(), np.uint32)
    encode = {"TRIANGLES": packer.encode_index_buffer, "INDICES": packer.encode_index_sequence}[mode]
    parts = (
        (packer.encode_vertex_buffer(rows.view("<f4"), len(rows), 8), "ATTRIBUTES", len(rows), 8),
        (encode(corners, len(corners), len(POINTS)), mode, len(corners), 2),
    )
    for data, kind, count, stride in parts:
        number = glb.view(bytes(data))
        packed = dict(glb.document["bufferViews"][number]) | {
            "mode": kind,
            "count": count,
            "byteStride": stride,
        }
        glb.document["bufferViews"][number] = {
            "buffer": 1,
            "byteLength": count * stride,
            "extensions": {extension: packed},
        } | ({"byteStride": stride} if kind == "ATTRIBUTES" else {})
    position = glb.accessor(componentType=5122, count=len(rows), type="VEC3", normalized=True, bufferView=0)
    index = glb.accessor(componentType=5123, count=len(corners), type="SCALAR", bufferView=1)
    glb.mesh({"attributes": {"POSITION": position}, "indices": index})
    glb.document["buffers"] = [{}, {"byteLength": len(rows) * 8 + len(corners) * 2}]
    glb.document["nodes"][0]["scale"] = [0.25] * 3
    glb.document["extensionsRequired"] = [extension, "KHR_mesh_quantization"]
    return glb


@pytest.mark.parametrize("mode", ["TRIANGLES", "INDICES"])
@pytest.mark.parametrize("extension", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt(mode: str, extension: str, tmp_path: Path) -> None:
    mesh = read(tmp_path, meshopt_bytes(mode, extension))
    assert np.abs(mesh.positions - POINTS).max() < 2 * STEP
    assert np.array_equal(surface(POINTS, mesh.topology.triangles), surface(POINTS, TRIANGLES))


def test_meshopt_data_is_not_believed(tmp_path: Path) -> None:
    glb = meshopt_bytes()
    packed = glb.document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]
    packed["count"] = 10**9
    with pytest.raises(MeshInputError, match="what it unpacks to: got 7629 MiB; expected at most 512 MiB"):
        read(tmp_path, glb)
    for key, value in (("byteStride", 6), ("mode", "WHOLE"), ("filter", "OCTAHEDRON"), ("byteLength", 9)):
        glb = meshopt_bytes()
        glb.document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"][key] = value
        with pytest.raises(MeshInputError, match="damaged contents"):
            read(tmp_path, glb)


@pytest.mark.parametrize(
    ("package", "make", "name"),
    [
        ("DracoPy", draco_bytes, "KHR_draco_mesh_compression"),
        ("meshoptimizer", meshopt_bytes, "EXT_meshopt_compression"),
    ],
)
def test_without_the_package_the_extension_is_named(
    package: str, make: Callable[[], Glb], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glb = make()
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{name} needs .*pip install 'topos-rt\[gltf\]'"):
        read(tmp_path, glb)


def test_filters_of_meshopt_are_undone() -> None:
    packer = needs.module("meshoptimizer")
    # An exponential filter: mantissa in 24 bits, exponent in 8: 3 × 2^-2.
    stored = np.array([[3 | ((-2 & 0xFF) << 24)] * 3], "<u4").view("<f4")
    data = bytes(packer.encode_vertex_buffer(stored, 1, 12))
    packed = {"count": 1, "byteStride": 12, "mode": "ATTRIBUTES", "filter": "EXPONENTIAL"}
    found = np.frombuffer(gltf_codecs.unpack_meshopt(data, packed, "the file"), "<f4")
    assert found.tolist() == [0.75] * 3


# ---- sizes that are only declared ----


def accessor_without_data(count: int) -> Callable[[], Glb]:
    def make() -> Glb:
        glb = plain(POINTS, TRIANGLES)
        glb.document["accessors"][0] = {"componentType": 5126, "count": count, "type": "VEC3"}
        return glb

    return make


def many(**node: Any) -> Callable[[], Glb]:
    def make() -> Glb:
        glb = plain(POINTS, TRIANGLES)
        glb.document["nodes"] = [{"mesh": 0, **node} for _ in range(200_000)]
        glb.document["scenes"][0]["nodes"] = list(range(200_000))
        return glb

    return make


def many_primitives() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["meshes"][0]["primitives"] *= 30_000
    return glb


def many_morphs() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    target = {"POSITION": glb.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]}
    glb.document["meshes"][0]["primitives"][0]["targets"] = [target] * 1_000_000
    glb.document["meshes"][0]["weights"] = [1] * 1_000_000
    return glb


def index_count() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["accessors"][1]["count"] = 15_000_000
    return glb


def sparse_count() -> Glb:
    glb = sparse(True)()
    glb.document["accessors"][0]["sparse"]["count"] = 10**12
    return glb


def long_buffer() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["buffers"] = [{"byteLength": 2**40}]
    return glb


CLAIMS: dict[str, tuple[Callable[[], Glb], str]] = {
    "1e8 vertices without data": (accessor_without_data(10**8), "got 100,000,000 vertices"),
    "1e7 vertices without data": (accessor_without_data(10**7), "10000000 elements without data"),
    "1e30 vertices": (accessor_without_data(10**30), "vertices; expected at most"),
    "indices past the end": (index_count, "triangles|past the end"),
    "sparse values past the end": (sparse_count, "past the end"),
    "a buffer past the end": (long_buffer, "longer than its data"),
    "instances": (many(), "got 17,200,000 vertices|triangles; expected at most"),
    "primitives": (many_primitives, "got .* primitives; expected at most 20,000"),
    "morph targets": (many_morphs, "got 86,000,000 rig values; expected at most"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_declared_size_takes_no_memory(case: str, tmp_path: Path) -> None:
    make, message = CLAIMS[case]
    data = make().bytes()
    tracemalloc.start()
    try:
        with pytest.raises(MeshInputError, match=message):
            read(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(data) + 2**20


def test_many_small_instances_are_read_at_once(tmp_path: Path) -> None:
    glb = plain(np.eye(3), np.array([[0, 1, 2]]))
    glb.document["nodes"] = [{"mesh": 0, "translation": [i, 0, 0]} for i in range(200_000)]
    glb.document["scenes"][0]["nodes"] = list(range(200_000))
    mesh = read(tmp_path, glb)
    assert len(mesh.topology.triangles) == 200_000
    assert mesh.positions[-3:].tolist() == [[200_000, 0, 0], [199_999, 1, 0], [199_999, 0, 1]]


def test_limits_are_the_callers(tmp_path: Path) -> None:
    data = plain(POINTS, TRIANGLES).bytes()
    for kind, most, got in (
        ("vertices", len(POINTS) - 1, f"{len(POINTS)} vertices"),
        ("triangles", len(TRIANGLES) - 1, f"{len(TRIANGLES)} triangles"),
        ("file_bytes", len(data) - 1, "0 MiB"),
        ("json_bytes", 99, "0 MiB of JSON"),
    ):
        with pytest.raises(MeshInputError, match=f"got {got}; expected at most"):
            read(tmp_path, data, Limits(**{kind: most}))
    assert_same(read(tmp_path, data, Limits(vertices=len(POINTS), triangles=len(TRIANGLES))))
    with pytest.raises(OptionError, match="limit triangles: got 0"):
        Limits(triangles=0)


# ---- damage ----


def changed(path: tuple[Any, ...], value: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        glb = skinned()
        place: Any = glb.document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return glb.bytes()

    return make


ACCESSOR = ("accessors", 0)
DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut": (lambda: skinned().bytes()[:3000], "got 3,000 of the"),
    "another file": (lambda: b"o head\n" * 9, "a file that is no binary glTF"),
    "version 1": (lambda: b"glTF\1\0\0\0" + bytes(20), "version 1 of glTF"),
    "deep": (lambda: container(b"[" * 99_999, b""), "damaged contents"),
    "a list": (lambda: container(b"[]", b""), "JSON that is not an object"),
    "a long number": (lambda: container(b"9" * 5000, b""), "damaged contents"),
    "no nodes": (changed(("nodes",), 5), "damaged contents"),
    "a circle": (changed(("nodes", 2), {"children": [1]}), "damaged contents"),
    "two parents": (changed(("nodes", 0, "children"), [2]), "damaged contents"),
    "a strange child": (changed(("nodes", 1, "children"), [99]), "nodes has no entry 99"),
    "a negative child": (changed(("nodes", 1, "children"), [-1]), "damaged contents"),
    "a joint that is no node": (changed(("skins", 0, "joints"), [1, 99]), "nodes has no entry 99"),
    "a joint too few": (changed(("skins", 0, "joints"), [1]), "joint 1 of a skin of 1"),
    "NaN in a node": (changed(("nodes", 1, "scale"), [float("nan")] * 3), "not finite"),
    "a type": (changed((*ACCESSOR, "type"), "VEC7"), "damaged contents"),
    "a component type": (changed((*ACCESSOR, "componentType"), 5130), "damaged contents"),
    "a count of words": (changed((*ACCESSOR, "count"), "many"), "count many"),
    "a count below zero": (changed((*ACCESSOR, "count"), -1), "count -1"),
    "no positions": (changed(("meshes", 0, "primitives", 0, "attributes"), {}), "damaged contents"),
    "a mode": (changed(("meshes", 0, "primitives", 0, "mode"), 9), "damaged contents"),
    "an index past the end": (lambda: plain(POINTS, TRIANGLES + 1).bytes(), "in a triangle, where there are"),
    "NaN": (lambda: plain(POINTS * np.nan, TRIANGLES).bytes(), "not finite"),
    "outside": (changed(("buffers",), [{"uri": "head.bin", "byteLength": 9}]), "data outside of the file"),
    "an extension": (changed(("extensionsRequired",), ["OWN_folding"]), "needs OWN_folding"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files(case: str, tmp_path: Path) -> None:
    make, message = DAMAGE[case]
    with pytest.raises(MeshInputError, match=message) as caught:
        read(tmp_path, make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "name", ["KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp", "VRMC_vrm"]
)
def test_extensions_that_say_nothing_of_geometry_do_not_matter(name: str, tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["extensionsRequired"] = [name]
    assert_same(read(tmp_path, glb))


def test_metadata_may_be_anything(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["extras"] = json.loads('{"a": [1, "ä\\u0000"], "b": null}')
    assert_same(read(tmp_path, glb))
