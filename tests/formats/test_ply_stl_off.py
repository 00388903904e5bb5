"""PLY, STL and OFF meshes: every way to write one surface gives it, and no declared size is believed."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.meshes import ball
from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.scan.read import read_scan

HEAD = ball(rings=8, segments=12)
POINTS, TRIANGLES = HEAD.positions.astype(np.float64), HEAD.triangles
QUADS = [
    part.tolist()
    for part in np.split(
        HEAD.topology.polygon_vertices, np.cumsum(HEAD.topology.polygon_sizes, dtype=int)[:-1]
    )
]
VERTEX = f"element vertex {len(POINTS)}\nproperty float x\nproperty float y\nproperty float z\n"
LIST = "property list uchar int vertex_indices\n"


def read(path: Path, name: str, data: bytes, limits: Limits = LIMITS) -> MeshFile:
    file = path / name
    file.write_bytes(data)
    return read_mesh(file, limits=limits)


def corners(mesh: MeshFile) -> np.ndarray:
    """Return the corners [F,3,3] of the triangles."""
    return mesh.positions[mesh.triangles]


EXPECTED = HEAD.positions[TRIANGLES]


# ---- PLY ----


def ply(
    form: str = "ascii",
    faces: list[list[int]] | None = None,
    *,
    comment: bytes = b"made by hand",
    newline: bytes = b"\n",
    face: str = LIST,
    after: bytes = b"",
    blank: bytes = b"",
) -> bytes:
    """Return a PLY of the ball; `face` are the properties of a face, whose numbers besides the list are 7."""
    faces = TRIANGLES.tolist() if faces is None else faces
    head = f"ply\nformat {form} 1.0\n".encode() + b"comment " + comment + b"\n" + VERTEX.encode()
    head += f"element face {len(faces)}\n{face}end_header\n".encode()
    kinds = {"uchar": "B", "int": "i", "uint": "I", "ushort": "H", "float": "f"}
    properties = [line.split() for line in face.strip().split("\n")]
    body = b""
    if form == "ascii":
        for x, y, z in HEAD.positions.tolist():
            body += f"{x!r} {y!r} {z!r}\n".encode() + blank
        for polygon in faces:
            words: list[object] = []
            for words_of in properties:
                if words_of[1] != "list":
                    words.append(7)
                elif words_of[-1].startswith("vertex"):
                    words += [len(polygon), *polygon]
                else:
                    words += [2, 7, 7]
            body += " ".join(map(str, words)).encode() + b"\n" + blank
        return (head + body + after).replace(b"\n", newline)
    order = "<" if "little" in form else ">"
    body = HEAD.positions.astype(order + "f4").tobytes()
    for polygon in faces:
        for words_of in properties:
            if words_of[1] != "list":
                body += struct.pack(order + kinds[words_of[1]], 7)
                continue
            entries = polygon if words_of[-1].startswith("vertex") else [7, 7]
            body += struct.pack(order + kinds[words_of[2]], len(entries))
            body += struct.pack(f"{order}{len(entries)}{kinds[words_of[3]]}", *entries)
    return head.replace(b"\n", newline) + body + after


LITTLE, BIG = "binary_little_endian", "binary_big_endian"
MORE = "property uchar red\n" + LIST + "property list ushort float texcoord\nproperty float quality\n"
PLY_WAYS: dict[str, Callable[[], bytes]] = {
    "ASCII": lambda: ply(),
    "little endian": lambda: ply(LITTLE),
    "big endian": lambda: ply(BIG),
    "Latin-1 in a comment": lambda: ply(comment="Größe".encode("latin-1")),
    "Latin-1 in binary": lambda: ply(LITTLE, comment=b"\xff\xfe\x80"),
    "end_header in a comment": lambda: ply(LITTLE, comment=b"no end_header here"),
    "end_header ends a comment": lambda: ply(comment=b"end_header"),
    "obj_info and a texture": lambda: ply(LITTLE, comment=b"TextureFile missing.png\nobj_info 1 2"),
    "a trailing newline": lambda: ply(LITTLE, after=b"\n"),
    "a trailing byte": lambda: ply(BIG, after=b"\0"),
    "trailing text": lambda: ply(after=b"\n\nthe end\n"),
    "blank lines": lambda: ply(blank=b"\n  \n"),
    "carriage returns and line feeds": lambda: ply(newline=b"\r\n"),
    "carriage returns": lambda: ply(newline=b"\r"),
    "the same in binary": lambda: ply(LITTLE, newline=b"\r\n"),
    "vertex_index": lambda: ply(LITTLE, face="property list uchar uint vertex_index\n"),
    "lengths of 32 bits": lambda: ply(BIG, face="property list int int vertex_indices\n"),
    "lengths of 16 bits, indices of 16 bits": lambda: ply(
        LITTLE, face="property list ushort ushort vertex_indices\n"
    ),
    "more properties": lambda: ply(LITTLE, face=MORE),
    "more properties in ASCII": lambda: ply(face=MORE),
    "triangles and quads": lambda: ply(LITTLE, QUADS),
    "quads and triangles in ASCII": lambda: ply("ascii", QUADS),
}


@pytest.mark.parametrize("make", PLY_WAYS.values(), ids=PLY_WAYS)
def test_a_ply_however_it_is_written(
    make: Callable[[], bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mesh = read(tmp_path, "mesh.ply", make())
    assert np.array_equal(mesh.positions, HEAD.positions)
    assert np.array_equal(np.sort(mesh.triangles, 0), np.sort(TRIANGLES, 0))
    assert np.array_equal(corners(mesh), EXPECTED)
    assert mesh.notes == ()
    assert capfd.readouterr() == ("", "")


def test_elements_before_and_between(tmp_path: Path) -> None:
    data = ply(LITTLE)
    start = data.index(b"end_header\n") + 11
    vertices = start + 12 * len(POINTS)
    camera = b"element camera 2\nproperty double x\nproperty list uchar short path\nelement vertex"
    edge = b"element edge 3\nproperty int vertex1\nproperty int vertex2\nelement face"
    head = data[:start].replace(b"element vertex", camera).replace(b"element face", edge)
    rows = struct.pack("<dB2hdB", 1.5, 2, 3, 4, 2.5, 0)
    mesh = read(tmp_path, "mesh.ply", head + rows + data[start:vertices] + bytes(24) + data[vertices:])
    assert np.array_equal(corners(mesh), EXPECTED)


@pytest.mark.parametrize("form", ["ascii", LITTLE])
def test_triangle_strips(form: str, tmp_path: Path) -> None:
    strips = [0, 1, 2, 3, 4, -1, 5, 6, 7, 7, 7, 8, 9, -1, -1, 1, 2, -1], [3, 4, 5]
    expected = [[0, 1, 2], [2, 1, 3], [2, 3, 4], [5, 6, 7], [7, 8, 9], [3, 4, 5]]
    element = "element tristrips 2\nproperty list int int vertex_indices\n"
    head = f"ply\nformat {form} 1.0\n{VERTEX}{element}end_header\n"
    if form == "ascii":
        body = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in HEAD.positions.tolist()).encode()
        body += "".join(f"{len(strip)} {' '.join(map(str, strip))}\n" for strip in strips).encode()
    else:
        body = HEAD.positions.astype("<f4").tobytes()
        body += b"".join(struct.pack(f"<{len(strip) + 1}i", len(strip), *strip) for strip in strips)
    mesh = read(tmp_path, "mesh.ply", head.encode() + body)
    found = [sorted(triangle) for triangle in mesh.triangles.tolist()]
    assert found == [sorted(triangle) for triangle in expected]
    for triangle, right in zip(mesh.triangles.tolist(), expected, strict=True):
        assert right in [triangle, triangle[1:] + triangle[:1], triangle[2:] + triangle[:2]]


def test_faces_without_three_corners_are_left_out(tmp_path: Path) -> None:
    more = [*TRIANGLES.tolist(), [1, 1, 2], [3, 4], [], [5, 6, 6, 7]]
    mesh = read(tmp_path, "mesh.ply", ply(LITTLE, more))
    assert np.array_equal(corners(mesh)[:-1], EXPECTED)
    assert sorted(mesh.triangles[-1].tolist()) == [5, 6, 7]
    assert mesh.notes == ("3 polygons without three different corners left out",)


def lied(count: int, form: str, kind: str = "face") -> Callable[[], bytes]:
    def make() -> bytes:
        own = len(TRIANGLES) if kind == "face" else len(POINTS)
        return ply(form).replace(f"element {kind} {own}".encode(), f"element {kind} {count}".encode())

    return make


def index(value: int) -> Callable[[], bytes]:
    return lambda: ply("ascii", [[0, 1, value]])


BAD_PLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "faces past the end": (lied(10**6, LITTLE), "bytes for 1000000 rows of 'face'"),
    "one face more": (lied(len(TRIANGLES) + 1, LITTLE), "damaged contents|an end within"),
    "vertices past the end": (lied(10**6, LITTLE, "vertex"), "bytes for 1000000 points"),
    "lines past the end": (lied(len(TRIANGLES) + 1, "ascii"), "row 169 of 'face' with 0 numbers"),
    "too many triangles": (lied(5_000_001, "ascii"), "5,000,001|bytes for"),
    "a terabyte": (lied(10**12, LITTLE), "1,000,000,000,000 points; expected at most"),
    "an index past the end": (index(len(POINTS)), f"got vertex 0..{len(POINTS)} in a face"),
    "an index below zero": (index(-1), r"got vertex -1..1 in a face"),
    "a long list": (
        lambda: (
            ply(LITTLE, face="property list int int vertex_indices\n")[:-16]
            + struct.pack("<i", 10**9)
            + bytes(12)
        ),
        "a list of 1000000000 entries",
    ),
    "a list below zero": (
        lambda: (
            ply(LITTLE, face="property list int int vertex_indices\n")[:-16]
            + struct.pack("<i", -5)
            + bytes(12)
        ),
        "a list of -5 entries",
    ),
    "lengths that are no numbers": (
        lambda: ply().replace(b"list uchar int", b"list float int"),
        "lists whose length is no whole number",
    ),
    "an unknown type": (lambda: ply().replace(b"float y", b"quad y"), "PLY header"),
    "an axis twice": (lambda: ply().replace(b"float y", b"float x"), "a property twice"),
    "an element twice": (lambda: ply().replace(b"element face", b"element vertex"), "an element twice"),
    "a line of two": (lambda: ply().replace(b"property float y", b"property y"), "the line 'property y'"),
    "words": (lambda: ply().replace(b"0.1", b"north"), "damaged contents|lines that are not"),
    "no z": (lambda: ply(LITTLE).replace(b"float z", b"float q"), "vertices without x, y and z"),
    "faces of another name": (lambda: ply(face="property list uchar int corners\n"), "no polygons"),
    "300 corners": (
        lambda: ply(
            "ascii", [[i % len(POINTS) for i in range(300)]], face="property list int int vertex_indices\n"
        ),
        "a polygon of 300 corners",
    ),
}


@pytest.mark.parametrize("case", BAD_PLY)
def test_bad_ply_meshes(case: str, tmp_path: Path) -> None:
    make, message = BAD_PLY[case]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(MeshInputError, match=message) as caught:
            read(tmp_path, "mesh.ply", data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 60 * len(data) + 2**20


# ---- STL ----

FACETS = HEAD.positions[TRIANGLES].astype("<f4")


def stl(count: int | None = None, after: bytes = b"", header: bytes = b"made by hand") -> bytes:
    rows = np.zeros(
        len(FACETS), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    )
    rows["corners"] = FACETS
    told = len(FACETS) if count is None else count
    return header.ljust(80, b"\0") + struct.pack("<I", told) + rows.tobytes() + after


def stl_text(name: bytes = b"head", newline: bytes = b"\n", upper: bool = False) -> bytes:
    lines = [b"solid " + name]
    for facet in FACETS.tolist():
        lines += [b"  facet normal 0 0 0", b"    outer loop"]
        lines += [f"      vertex {x!r} {y!r} {z!r}".encode() for x, y, z in facet]
        lines += [b"    endloop", b"  endfacet"]
    text = newline.join([*lines, b"endsolid " + name, b""])
    return text.upper() if upper else text


STL_WAYS: dict[str, Callable[[], bytes]] = {
    "binary": stl,
    "binary that begins with solid": lambda: stl(header=b"solid head"),
    "binary, solid, with bytes after it": lambda: stl(header=b"solid head", after=b"\0" * 7),
    "bytes after it": lambda: stl(after=b"more than that"),
    "a whole triangle after it": lambda: stl(after=bytes(50)),
    "text": stl_text,
    "text in Latin-1": lambda: stl_text("Köpfe".encode("latin-1")),
    "text in capitals": lambda: stl_text(upper=True),
    "carriage returns": lambda: stl_text(newline=b"\r"),
    "carriage returns and line feeds": lambda: stl_text(newline=b"\r\n"),
}


@pytest.mark.parametrize("make", STL_WAYS.values(), ids=STL_WAYS)
def test_an_stl_however_it_is_written(make: Callable[[], bytes], tmp_path: Path) -> None:
    mesh = read(tmp_path, "mesh.stl", make())
    assert np.array_equal(corners(mesh), FACETS)
    assert mesh.triangles.tolist() == np.arange(3 * len(FACETS)).reshape(-1, 3).tolist()


def test_what_follows_an_stl_is_told(tmp_path: Path) -> None:
    assert read(tmp_path, "mesh.stl", stl()).notes == ()
    notes = read(tmp_path, "mesh.stl", stl(after=bytes(7))).notes
    assert notes == (f"7 bytes after the {len(FACETS)} triangles ignored",)
    assert read(tmp_path, "mesh.stl", stl(count=10)).notes[0].endswith("bytes after the 10 triangles ignored")


BAD_STL: dict[str, tuple[bytes, str]] = {
    "cut": (stl()[:-1], f"got {len(FACETS)} triangles in the header and {len(FACETS) - 1} in the file"),
    "a terabyte": (stl(count=2**32 - 1), "4,294,967,295 triangles in the header"),
    "a header": (stl()[:60], "60 bytes"),
    "no triangles": (stl(count=0), "no polygons"),
    "an end within a facet": (stl_text()[:-100], "an end within a facet|vertices|unpack"),
    "four corners": (stl_text().replace(b"endloop", b"vertex 0 0 0\nendloop", 1), "facet 1 does not have 3"),
    "words": (stl_text().replace(b"vertex ", b"vertex north ", 1), "could not convert"),
    "empty text": (b"solid x\nendsolid x\n", "no polygons"),
    "NaN": (stl_text().replace(b"vertex 0", b"vertex nan 0", 1), "nan|damaged"),
}


@pytest.mark.parametrize("case", BAD_STL)
def test_bad_stl(case: str, tmp_path: Path) -> None:
    data, message = BAD_STL[case]
    with pytest.raises(MeshInputError, match=message):
        read(tmp_path, "mesh.stl", data)


def test_limits_of_stl(tmp_path: Path) -> None:
    for data in (stl(), stl_text()):
        with pytest.raises(MeshInputError, match="triangles; expected at most 100"):
            read(tmp_path, "mesh.stl", data, Limits(triangles=100))


# ---- OFF ----


def off(keyword: str = "OFF", more: str = "", faces: list[list[int]] | None = None, tail: str = "") -> bytes:
    faces = TRIANGLES.tolist() if faces is None else faces
    lines = [keyword, "# a comment", "", f"{len(POINTS)} {len(faces)} 0"]
    lines += [f"{x!r} {y!r} {z!r}{more}" for x, y, z in HEAD.positions.tolist()]
    lines += [" ".join(map(str, [len(face), *face])) + tail for face in faces]
    return "\n".join(lines).encode()


OFF_WAYS: dict[str, Callable[[], bytes]] = {
    "plain": off,
    "counts beside the keyword": lambda: off().replace(b"OFF\n# a comment\n\n", b"OFF "),
    "no keyword": lambda: off("# nothing"),
    "no number of edges": lambda: off().replace(
        f"{len(TRIANGLES)} 0\n".encode(), f"{len(TRIANGLES)}\n".encode()
    ),
    "colours": lambda: off("COFF", " 0.5 0.5 0.5 1"),
    "normals": lambda: off("NOFF", " 0 0 1"),
    "everything": lambda: off("STCNOFF", " 0 0 1 1 1 1 1 0 0"),
    "colours of faces": lambda: off(tail=" 255 0 0"),
    "comments behind numbers": lambda: off(more=" # a corner", tail=" # a face"),
    "quads": lambda: off(faces=QUADS),
    "carriage returns": lambda: off().replace(b"\n", b"\r"),
    "carriage returns and line feeds": lambda: off().replace(b"\n", b"\r\n"),
    "Latin-1": lambda: off().replace(b"a comment", b"\xe4\xff"),
}


@pytest.mark.parametrize("make", OFF_WAYS.values(), ids=OFF_WAYS)
def test_an_off_however_it_is_written(make: Callable[[], bytes], tmp_path: Path) -> None:
    mesh = read(tmp_path, "mesh.off", make())
    assert np.array_equal(corners(mesh), EXPECTED)


BAD_OFF: dict[str, tuple[bytes, str]] = {
    "binary": (b"OFF BINARY\n" + bytes(50), "a binary OFF file"),
    "four dimensions": (off("4OFF"), "no OFF header"),
    "text": (b"hello world\n", "damaged contents"),
    "faces past the end": (off().replace(f"{len(TRIANGLES)} 0".encode(), b"999999 0"), "bytes for"),
    "a terabyte": (
        off().replace(f"{len(TRIANGLES)} 0".encode(), b"999999999999 0"),
        "expected at most 5,000,000",
    ),
    "one face more": (
        off().replace(f"{len(TRIANGLES)} 0".encode(), f"{len(TRIANGLES) + 1} 0".encode()),
        "face 169",
    ),
    "a short face": (off(faces=[[0, 1, 2]]).replace(b"3 0 1 2", b"5 0 1 2"), "face 1 with 3 numbers for 5"),
    "a negative face": (off(faces=[[0, 1, 2]]).replace(b"3 0 1 2", b"-3 0 1 2"), "face 1"),
    "an index past the end": (off(faces=[[0, 1, 999]]), "vertex 0..999 in a face"),
}


@pytest.mark.parametrize("case", BAD_OFF)
def test_bad_off(case: str, tmp_path: Path) -> None:
    data, message = BAD_OFF[case]
    with pytest.raises(MeshInputError, match=message) as caught:
        read(tmp_path, "mesh.off", data)
    assert "\n" not in str(caught.value)


# ---- scans ----


def test_an_unused_vertex_far_away_does_not_matter(tmp_path: Path) -> None:
    plain = ply("ascii")
    with_far = plain.replace(VERTEX.encode(), VERTEX.replace(str(len(POINTS)), str(len(POINTS) + 1)).encode())
    lines = with_far.split(b"\n")
    start = lines.index(b"end_header") + 1 + len(POINTS)
    lines.insert(start, b"1000000 0 0")
    (tmp_path / "far.ply").write_bytes(b"\n".join(lines))
    (tmp_path / "plain.ply").write_bytes(plain)
    far, near = (read_scan(tmp_path / name) for name in ("far.ply", "plain.ply"))
    assert far.warnings == near.warnings == ()
    assert np.array_equal(far.points, near.points)


def test_a_cloud_with_blank_lines_and_an_encoding(tmp_path: Path) -> None:
    rows = "\n\n".join(f"{x!r} {y!r} {z!r}" for x, y, z in HEAD.positions.tolist())
    for newline in ("\n", "\r\n", "\r"):
        text = f"ply\nformat ascii 1.0\ncomment Größe end_header\n{VERTEX}end_header\n{rows}\n"
        (tmp_path / "cloud.ply").write_bytes(text.replace("\n", newline).encode("latin-1"))
        scan = read_scan(tmp_path / "cloud.ply")
        assert scan.surface.is_cloud
        assert np.array_equal(np.sort(scan.surface.points, 0), np.sort(HEAD.positions.astype(float), 0))
