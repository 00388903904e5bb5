"""A head's mesh as the C++ numerics write it for renderers, against NumPy."""

from __future__ import annotations

import ctypes
import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.part_heads import dressed
from tests.sdk.numerics.calls import call
from topos_rt.formats.gltf_numbers import Quantized
from topos_rt.formats.seams import SeamSplit, split_seams
from topos_rt.formats.textures import tangents
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals

ATTRIBUTES = ("", "position", "normal", "tangent", "texcoord", "joints", "weights", "source")
# name -> dtype, values; the place is the number in topos_rt.h
FORMATS = {
    "": ("u1", 0), "F32X2": ("f4", 2), "F32X3": ("f4", 3), "F32X4": ("f4", 4), "F16X2": ("f2", 2),
    "F16X4": ("f2", 4), "SNORM8X4": ("i1", 4), "SNORM16X4": ("i2", 4), "UNORM16X2": ("u2", 2),
    "UNORM8X4": ("u1", 4), "UNORM16X4": ("u2", 4), "U8X4": ("u1", 4), "U16X4": ("u2", 4), "U16": ("u2", 1),
    "U32": ("u4", 1),
}  # fmt: skip
ALLOWED = {
    "position": {"F32X3", "F32X4", "F16X4"},
    "normal": {"F32X3", "F32X4", "F16X4", "SNORM8X4", "SNORM16X4"},
    "tangent": {"F32X4", "F16X4", "SNORM8X4", "SNORM16X4"},
    "texcoord": {"F32X2", "F16X2", "UNORM16X2"},
    "joints": {"U8X4", "U16X4"},
    "weights": {"F32X4", "F16X4", "UNORM8X4", "UNORM16X4"},
    "source": {"U16", "U32"},
}
AXES = ("gltf", "unity", "unreal", "opengl", "godot")
# Rows of glTF's vectors @ these; the head's own left is +X, -X, -Y and +X.
TURNS = {
    "gltf": np.eye(3), "unity": np.diag([-1, 1, 1]), "opengl": np.eye(3),
    "unreal": np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]]), "godot": np.eye(3),
}  # fmt: skip
UNITS = {"gltf": 1, "unity": 1, "unreal": 100, "opengl": 1, "godot": 1}
LEFT_HANDED = ("unity", "unreal")
CLOCKWISE = ("unity", "godot")  # front faces, as they are seen from outside
NONE, BAD_ATTRIBUTE, BAD_FORMAT, BAD_STRIDE, BAD_CAPACITY, ABSENT, BAD_RANGE = range(7)


class Row(ctypes.Structure):
    _fields_ = (
        ("attribute", ctypes.c_uint32), ("format", ctypes.c_uint32), ("offset", ctypes.c_uint32),
        ("stride", ctypes.c_uint32), ("data", ctypes.c_void_p), ("capacity", ctypes.c_uint64),
    )  # fmt: skip


@dataclasses.dataclass
class Surface:
    """A head's arrays as C takes them, and what streams of them hold in glTF's axes."""

    mesh: HeadMesh
    split: SeamSplit
    tangents: np.ndarray

    @property
    def arrays(self) -> list[np.ndarray]:
        mesh, rig = self.mesh, self.mesh.rig
        assert rig is not None
        return [self.split.source, mesh.positions, mesh.normals, self.tangents, self.split.uvs,
                rig.skin_joints, rig.skin_weights]  # fmt: skip

    def to_c(self, without: int | None = None) -> tuple[Any, int, int]:
        """Return the addresses, the number of vertices and the number of joints."""
        made = (ctypes.c_void_p * 7)(*(array.ctypes.data for array in self.arrays))
        if without is not None:
            made[without] = None
        assert self.mesh.rig is not None
        return made, len(self.split.source), len(self.mesh.rig.joint_names)


@cache
def surface() -> Surface:
    mesh = dressed()
    split = split_seams(mesh.topology)
    uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
    made = tangents(mesh.positions[split.source], mesh.normals[split.source], uvs, split.triangles)
    return Surface(mesh, split, made)


def values(name: str, axes: str) -> np.ndarray:
    """Return a stream's numbers [W,k] in some axes."""
    of, turn = surface(), TURNS[axes].astype(np.float32)
    source, mesh, rig = of.split.source, of.mesh, of.mesh.rig
    assert rig is not None
    if name == "position":
        places = mesh.positions[source] @ turn * np.float32(UNITS[axes]) + np.float32(0)
        return np.concatenate([places, np.ones((len(source), 1), np.float32)], 1)
    if name == "normal":
        ways = mesh.normals[source] @ turn + np.float32(0)
        return np.concatenate([ways, np.zeros((len(source), 1), np.float32)], 1)
    if name == "tangent":
        sign = of.tangents[:, 3:] * np.float32(-1 if axes in LEFT_HANDED else 1)
        return np.concatenate([of.tangents[:, :3] @ turn + np.float32(0), sign], 1)
    if name == "texcoord":
        u, v = of.split.uvs.T
        return np.stack([u, v if axes in ("unity", "opengl") else 1 - v], 1)
    if name == "joints":
        return np.where(rig.skin_weights > 0, rig.skin_joints, 0)[source]
    return rig.skin_weights[source] if name == "weights" else source[:, None]


def stored(name: str, form: str, axes: str) -> np.ndarray:
    """Return what a stream's memory should hold, [W,k] of the format's type."""
    kind, count = FORMATS[form]
    numbers = values(name, axes)[:, :count]
    if form.startswith(("F", "U8", "U16X4", "U32")) or form == "U16":
        return numbers.astype(kind)
    limit = np.iinfo(kind).max
    low = 0 if form.startswith("UNORM") else -1
    made = np.rint(np.clip(numbers.astype(np.float64), low, 1) * limit).astype(np.int64)
    if name == "weights":
        rows, largest = np.arange(len(made)), made.argmax(1)
        made[rows, largest] += limit - made.sum(1)
    return made.astype(kind)


def row(name: str, form: str, data: np.ndarray, offset: int = 0, stride: int = 0) -> Row:
    number, kind = ATTRIBUTES.index(name), list(FORMATS).index(form)
    return Row(number, kind, offset, stride, data.ctypes.data, data.nbytes)


def write(lib: ctypes.CDLL, rows: list[Row], axes: str = "gltf", unit: float = 0.0) -> None:
    arrays, count, joints = surface().to_c()
    table = (Row * len(rows))(*rows)
    for each in rows:
        assert (
            call(lib, "check_stream", arrays, count, joints, ctypes.byref(each), returns=ctypes.c_int32) == 0
        )
    call(lib, "write_streams", arrays, count, joints, AXES.index(axes), unit, table, len(rows))


CASES = [(name, form) for name, forms in ALLOWED.items() for form in sorted(forms)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_attribute_and_format(lib: ctypes.CDLL, name: str, form: str, axes: str) -> None:
    want = stored(name, form, axes)
    data = np.empty_like(want)
    write(lib, [row(name, form, data)], axes)
    assert data.tobytes() == want.tobytes()


def test_interleaved_streams_leave_what_lies_between(lib: ctypes.CDLL) -> None:
    count, stride = len(surface().split.source), 44
    data = np.full((count, stride), 0xA5, np.uint8)
    chosen = {
        4: ("texcoord", "F16X2"),
        8: ("normal", "SNORM8X4"),
        14: ("position", "F32X3"),
        28: ("joints", "U8X4"),
    }
    # in another order than they lie in
    rows = [row(*what, data, offset, stride) for offset, what in sorted(chosen.items(), reverse=True)]
    write(lib, rows, "unreal", 1.0)
    left = np.ones(stride, bool)
    for offset, (name, form) in chosen.items():
        want = stored(name, form, "unreal")
        if name == "position":
            want = values("position", "gltf")[:, :3] @ TURNS["unreal"].astype(np.float32) + np.float32(0)
        size = want.itemsize * want.shape[1]
        assert data[:, offset : offset + size].tobytes() == np.ascontiguousarray(want).tobytes(), name
        left[offset : offset + size] = False
    assert (data[:, left] == 0xA5).all()


def test_weights_are_those_of_quantized_files(lib: ctypes.CDLL) -> None:
    mesh = surface().mesh
    assert mesh.rig is not None
    want = Quantized(mesh.positions).weights(mesh.rig.skin_weights[surface().split.source]).values
    data = np.empty_like(want)
    write(lib, [row("weights", "UNORM16X4", data)])
    assert data.tobytes() == want.tobytes()


@pytest.mark.parametrize("form", ["U16", "U32"])
@pytest.mark.parametrize("axes", AXES)
def test_indices_and_the_side_that_faces_out(lib: ctypes.CDLL, axes: str, form: str) -> None:
    triangles = surface().split.triangles
    data = np.empty(triangles.shape, FORMATS[form][0])
    call(lib, "write_indices", triangles, len(triangles), AXES.index(axes), list(FORMATS).index(form), data)
    order = [0, 2, 1] if axes in CLOCKWISE else [0, 1, 2]
    assert np.array_equal(data, triangles[:, order])
    places = np.empty((len(surface().split.source), 3), np.float32)
    write(lib, [row("position", "F32X3", places)], axes)
    ways = vertex_normals(places, data.astype(np.int32))
    # A cross product by its formula turns with the handedness, and the wanted side with the order.
    outwards = 1 if (axes in LEFT_HANDED) == (axes in CLOCKWISE) else -1
    # Most vertices have no seam, so that their normals are those of the whole head.
    assert np.median((ways * values("normal", axes)[:, :3]).sum(1)) * outwards > 0.999


@pytest.mark.parametrize(("axes", "left", "up", "front"), [
    ("gltf", "+x", "+y", "+z"), ("unity", "-x", "+y", "+z"), ("unreal", "-y", "+z", "+x"),
    ("opengl", "+x", "+y", "+z"), ("godot", "+x", "+y", "+z"),
])  # fmt: skip
def test_the_heads_own_left_is_not_mirrored(
    lib: ctypes.CDLL, axes: str, left: str, up: str, front: str
) -> None:
    mesh, data = surface().mesh, np.empty((len(surface().split.source), 3), np.float32)
    write(lib, [row("position", "F32X3", data)], axes)
    assert mesh.rig is not None

    def along(axis: str, ids: np.ndarray) -> float:
        return float(data[ids, "xyz".index(axis[1])].mean()) * (-1 if axis[0] == "-" else 1)

    def moved(name: str) -> np.ndarray:
        number = mesh.rig.shape_names.index(name)  # type: ignore[union-attr]
        return mesh.rig.shape_index[slice(*mesh.rig.shape_offsets[number : number + 2])]  # type: ignore[union-attr]

    everything = np.arange(len(mesh.positions))
    right_lid, left_lid = moved("eyeBlinkRight"), moved("eyeBlinkLeft")
    assert along(left, left_lid) > along(left, everything) + 0.01 * UNITS[axes]
    assert along(left, right_lid) < along(left, everything) - 0.01 * UNITS[axes]
    assert along(front, left_lid) > along(front, everything)
    assert along(up, left_lid) > along(up, mesh.topology.regions["lips"])


def checked(lib: ctypes.CDLL, one: Row, without: int | None = None, joints: int | None = None) -> int:
    arrays, count, own = surface().to_c(without)
    return call(lib, "check_stream", arrays, count, own if joints is None else joints, ctypes.byref(one),
                returns=ctypes.c_int32)  # fmt: skip


def test_streams_that_cannot_be_written(lib: ctypes.CDLL) -> None:
    count = len(surface().split.source)
    data = np.empty((count, 16), np.uint8)
    for name in ALLOWED:
        for form in FORMATS:
            want = NONE if form in ALLOWED[name] else BAD_FORMAT
            assert checked(lib, row(name, form, data)) == want, (name, form)
    for number in (0, 8, 2**32 - 1):
        assert checked(lib, Row(number, 2, 0, 0, data.ctypes.data, data.nbytes)) == BAD_ATTRIBUTE
    assert checked(lib, Row(1, 15, 0, 0, data.ctypes.data, data.nbytes)) == BAD_FORMAT
    assert checked(lib, Row(1, 2**32 - 1, 0, 0, data.ctypes.data, data.nbytes)) == BAD_FORMAT
    assert checked(lib, row("position", "F32X3", data, 0, 11)) == BAD_STRIDE
    assert checked(lib, row("position", "F32X3", data, 4, 16)) == NONE
    assert checked(lib, row("position", "F32X3", data, 5, 16)) == BAD_CAPACITY
    assert checked(lib, row("position", "F32X3", data, 0, 17)) == BAD_CAPACITY
    assert checked(lib, row("position", "F32X3", data, 2**32 - 1, 2**32 - 1)) == BAD_CAPACITY
    assert checked(lib, Row(1, 2, 0, 16, data.ctypes.data, 16 * count - 4)) == NONE
    assert checked(lib, Row(1, 2, 0, 16, data.ctypes.data, 16 * count - 5)) == BAD_CAPACITY
    assert checked(lib, Row(1, 2, 0, 16, data.ctypes.data, 0)) == BAD_CAPACITY
    for place, name in enumerate(("position", "normal", "tangent", "texcoord", "joints", "weights"), 1):
        form = sorted(ALLOWED[name])[0]
        assert checked(lib, row(name, form, data), place) == ABSENT
    assert checked(lib, row("joints", "U8X4", data), joints=256) == NONE
    assert checked(lib, row("joints", "U8X4", data), joints=257) == BAD_RANGE


def test_axes_that_are_not_known(lib: ctypes.CDLL) -> None:
    known = {number: call(lib, "known_axes", number, returns=ctypes.c_int32) for number in (-1, 0, 4, 5)}
    assert known == {-1: 0, 0: 1, 4: 1, 5: 0}


def halves(lib: ctypes.CDLL, numbers: np.ndarray) -> np.ndarray:
    out = np.empty(len(numbers), np.uint16)
    call(lib, "halves", numbers, len(numbers), out)
    return out


def test_every_half_and_what_lies_between(lib: ctypes.CDLL) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        around = [np.nextafter(every, np.float32(end)) for end in (-np.inf, np.inf)]
        middle = (every + np.roll(every, 1)) / 2
        beside = [np.nextafter(middle, np.float32(end)) for end in (-np.inf, np.inf)]
        for numbers in (every, *around, middle, *beside):
            want = numbers.astype(np.float16)
            got = halves(lib, numbers).view(np.float16)
            real = ~np.isnan(want)
            assert got[real].tobytes() == want[real].tobytes()
            assert np.isnan(got[~real]).all()


@given(st.lists(st.floats(width=32), min_size=1))
def test_halves(lib: ctypes.CDLL, numbers: list[float]) -> None:
    given_ = np.array(numbers, np.float32)
    with np.errstate(over="ignore"):
        want = given_.astype(np.float16)
    got = halves(lib, given_).view(np.float16)
    assert np.array_equal(got, want, equal_nan=True)
    assert (np.signbit(got) == np.signbit(want)).all()
