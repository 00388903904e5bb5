"""Point clouds from .npz and PLY: what is read, what is refused, and for what no memory is allocated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topos_rt.errors import MeshInputError
from topos_rt.formats import cloud_reader as cloudfile
from topos_rt.formats.cloud_reader import read_npz, read_ply_points
from topos_rt.formats.ply_header import read_ply_header

DRAW = np.random.default_rng(3)
POINTS, NORMALS = DRAW.normal(size=(40, 3)), DRAW.normal(size=(40, 3))


def ply(form: str, fields: str, rows: np.ndarray, count: int | None = None, more: str = "") -> bytes:
    """Return a PLY file of vertices; fields: "x:float y:double …"."""
    types = {"float": "f4", "double": "f8", "uchar": "u1", "short": "i2"}
    pairs = [field.split(":") for field in fields.split()]
    lines = [f"property {kind} {name}" for name, kind in pairs]
    head = "\n".join(
        [
            "ply",
            f"format {form} 1.0",
            "comment made by hand",
            f"element vertex {len(rows) if count is None else count}",
            *lines,
            *more.split("|"),
        ]
    )
    head = head.rstrip("\n") + "\nend_header\n"
    if form == "ascii":
        return head.encode() + "\n".join(" ".join(f"{v:.9g}" for v in row) for row in rows).encode() + b"\n"
    order = "<" if form == "binary_little_endian" else ">"
    table = np.zeros(len(rows), [(name, order + types[kind]) for name, kind in pairs])
    for (name, _), column in zip(pairs, rows.T, strict=True):
        table[name] = column
    return head.encode() + table.tobytes()


def read_ply(path: Path) -> cloudfile.CloudFile:
    return read_ply_points(path, read_ply_header(path, "the file"), "the file")


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_ply_of_every_form(tmp_path: Path, form: str, kind: str) -> None:
    path = tmp_path / "cloud.ply"
    names = f"nx:{kind} x:{kind} red:uchar y:{kind} z:{kind} ny:{kind} nz:{kind}"
    colour = np.arange(40) % 7
    rows = np.column_stack([NORMALS[:, 0], POINTS[:, 0], colour, POINTS[:, 1:], NORMALS[:, 1:]])
    path.write_bytes(ply(form, names, rows))
    found = read_ply(path)
    assert found.normals is not None and found.total == 40
    assert np.abs(found.points - POINTS).max() < 1e-6 and np.abs(found.normals - NORMALS).max() < 1e-6
    path.write_bytes(ply(form, f"x:{kind} y:{kind} z:{kind}", POINTS))
    assert read_ply(path).normals is None


@pytest.mark.parametrize("kwargs", [{}, {"order": "F"}, {"dtype": np.float32}, {"dtype": np.float16}])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_every_form(tmp_path: Path, save: Callable[..., None], kwargs: dict) -> None:
    points = np.array(POINTS, **kwargs)
    save(tmp_path / "cloud.npz", points=points, normals=np.asfortranarray(NORMALS), other=np.arange(5))
    found = read_npz(tmp_path / "cloud.npz", "the file")
    assert np.array_equal(found.points, points.astype(np.float64))
    assert np.array_equal(found.normals, NORMALS)
    save(tmp_path / "bare.npz", points=np.arange(60).reshape(20, 3))
    bare = read_npz(tmp_path / "bare.npz", "the file")
    assert bare.normals is None and bare.points[3].tolist() == [9, 10, 11]


def test_of_large_clouds_the_same_part_is_kept_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudfile, "KEPT_POINTS", 1000)
    monkeypatch.setattr(cloudfile, "_BLOCK", 4096)
    points = DRAW.normal(size=(300_000, 3)).astype(np.float32)
    np.savez(tmp_path / "cloud.npz", points=points, normals=points)
    (tmp_path / "cloud.ply").write_bytes(ply("binary_little_endian", "x:float y:float z:float", points))
    tracemalloc.start()
    found = read_npz(tmp_path / "cloud.npz", "the file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < points.nbytes / 2
    assert len(found.points) == 1000 and found.total == 300_000
    assert np.array_equal(found.points, found.normals)
    assert np.array_equal(found.points, read_ply(tmp_path / "cloud.ply").points)
    inside = {row.tobytes() for row in points}
    rows = found.points.astype(np.float32)
    assert all(row.tobytes() in inside for row in rows) and len({row.tobytes() for row in rows}) == 1000


def test_the_part_of_a_large_cloud_does_not_hang_on_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudfile, "KEPT_POINTS", 500)
    monkeypatch.setattr(cloudfile, "_BLOCK", 1000)
    points, normals = DRAW.normal(size=(2, 20_000, 3)).astype(np.float32)
    points[:9] = points[0] + np.float32([0, 0, 1e-6]) * np.arange(9, dtype=np.float32)[:, None]  # one place
    shuffle = DRAW.permutation(len(points))
    forms = {
        "plain": (points, normals),
        "shuffled": (points[shuffle], normals[shuffle]),
        "by columns": (np.asfortranarray(points), normals),
        "both by columns": (np.asfortranarray(points[shuffle]), np.asfortranarray(normals[shuffle])),
        "double": (points.astype(np.float64), normals),
    }
    found = []
    for form in forms.values():
        np.savez_compressed(tmp_path / "cloud.npz", points=form[0], normals=form[1])
        found.append(read_npz(tmp_path / "cloud.npz", "the file"))
    for one in found[1:]:
        assert np.array_equal(one.points, found[0].points)
        assert np.array_equal(one.normals, found[0].normals)
    pairs = {(*p, *n) for p, n in zip(points.tolist(), normals.tolist(), strict=True)}
    assert all(
        (*p, *n) in pairs for p, n in zip(found[0].points.tolist(), found[0].normals.tolist(), strict=True)
    )
    # an even share of every part, and mostly the same part where a file has six digits
    assert abs(np.count_nonzero(found[0].points[:, 0] > 0) - 250) < 60
    np.savez(tmp_path / "cloud.npz", points=points.astype(np.float64).round(6), normals=normals)
    rounded = read_npz(tmp_path / "cloud.npz", "the file").points
    near = np.linalg.norm(rounded[:, None] - found[0].points[None], axis=2).min(1) < 1e-5
    assert near.mean() > 0.9


def npy(shape: tuple[int, ...], data: bytes = b"", descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, points=np.array([[{}, 1, 2]], object))
    return buffer.getvalue()


NAN = np.float32(np.nan).tobytes()
GOOD = npy((20, 3), bytes(240))
BAD_NPZ = {
    "not a zip": (b"PK\x03\x04 but no more", "damaged contents"),
    "text": (b"0 0 0\n", "damaged contents"),
    "no points": (npz(vertices=GOOD), "got arrays: vertices; expected 'points'"),
    "empty archive": (npz(), "got arrays: nothing"),
    "a claim of terabytes": (npz(points=npy((10**11, 3))), "100,000,000,000 points"),
    "a claim beyond the file": (npz(points=npy((40_000_000, 3))), "damaged contents"),
    "too short": (npz(points=npy((20, 3), bytes(239))), "damaged contents"),
    "two columns": (npz(points=npy((20, 2), bytes(160))), r"'points' of shape \[20, 2\]; expected \[P,3\]"),
    "flat": (npz(points=npy((60,), bytes(240))), r"shape \[60\]"),
    "negative": (npz(points=npy((-3, 3))), "damaged contents"),
    "complex": (npz(points=npy((20, 3), bytes(480), "<c8")), "type complex64; expected numbers"),
    "objects": (pickled(), "type object; expected numbers"),
    "no npy": (npz(points=b"hello"), "damaged contents"),
    "fewer normals": (npz(points=GOOD, normals=npy((19, 3), bytes(228))), r"expected \[20,3\], one for each"),
    "NaN": (npz(points=npy((20, 3), bytes(120) + NAN + bytes(116))), "at number 11"),
    "NaN in normals": (npz(points=GOOD, normals=npy((20, 3), NAN * 60)), "normals: got"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz(tmp_path: Path, case: str) -> None:
    data, message = BAD_NPZ[case]
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(MeshInputError, match=message):
        read_npz(tmp_path / "bad.npz", "the file")


XYZ = "x:float y:float z:float"
BINARY = "binary_little_endian"
BAD_PLY = {
    "no header": (b"plywood", "no PLY header"),
    "no end": (b"ply\nformat ascii 1.0\nelement vertex 3\n", "no PLY header"),
    "no format": (b"ply\nelement vertex 3\nproperty float x\nend_header\n", "PLY header"),
    "unknown format": (b"ply\nformat text 1.0\nelement vertex 3\nend_header\n", "PLY header"),
    "a word for a number": (b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "PLY header"),
    "negative": (ply(BINARY, XYZ, POINTS, -5), "negative count"),
    "a claim of terabytes": (ply(BINARY, XYZ, POINTS, 10**12), "1,000,000,000,000 points"),
    "a claim beyond the file": (ply(BINARY, XYZ, POINTS, 41), "480 bytes for 41 points"),
    "ASCII beyond the file": (ply("ascii", XYZ, POINTS, 40_000), "bytes for 40000 points"),
    "lines too few": (ply("ascii", XYZ, POINTS, 45), "lines that are not 3 numbers"),
    "words": (ply("ascii", XYZ, POINTS[:20]).replace(b"-", b"minus "), "lines that are not 3 numbers"),
    "no z": (ply(BINARY, "x:float y:float", POINTS[:, :2]), "without x, y and z"),
    "NaN": (ply(BINARY, XYZ, np.where(np.arange(40)[:, None] == 3, np.nan, POINTS)), "at number 4"),
    "lists in vertices": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\nend_header\n1 2\n",
        "without x, y",
    ),
}


@pytest.mark.parametrize("case", BAD_PLY)
def test_bad_ply(tmp_path: Path, case: str) -> None:
    data, message = BAD_PLY[case]
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(MeshInputError, match=message):
        read_ply(tmp_path / "bad.ply")
