"""The container of engine packs: one way to write, and every damage refused."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topos_rt.errors import BundleError
from topos_rt.pack.container import ALIGN, MAGIC, VERSION, Pack, packed
from topos_rt.pack.sections import BYTES, KINDS, TEXT, TYPES

CONTENTS = {
    ("about", 0): ("tiny", "ä model", ""),
    ("rotation", 0): np.eye(3, dtype=np.float32),
    ("topology_id", 0): np.arange(32, dtype=np.uint8)[None],
    ("graph", 0): b"first graph",
    ("graph", 3): b"",
    ("joint_parents", 0): np.array([-1, 0, 1], np.int32),
    ("mesh_uvs", 0): np.zeros((0, 2), np.float32),
    ("part_weights", 0): np.ones((2, 5), np.float16),
}
WHOLE = packed(CONTENTS)


def opened(data: bytes, folder: Path, verify: bool = True) -> Pack:
    path = folder / "a.topos"
    path.write_bytes(data)
    return Pack.open(path, verify)


def resealed(data: bytes) -> bytes:
    """Return a pack whose header and table have been changed, with a hash that vouches for them."""
    count = struct.unpack_from("<I", data, 12)[0]
    digest = hashlib.sha256(data[:32] + data[ALIGN : ALIGN * (1 + count)]).digest()
    return data[:32] + digest + data[64:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pack = opened(WHOLE, tmp_path)
    assert set(pack.sections) == set(CONTENTS)
    assert pack.strings("about") == CONTENTS["about", 0]
    assert pack.file("graph", 0) == b"first graph" and pack.file("graph", 3) == b""
    for name in ("rotation", "topology_id", "part_weights", "mesh_uvs"):
        np.testing.assert_array_equal(pack.array(name), CONTENTS[name, 0])
    assert pack.array("joint_parents").tolist() == [[-1], [0], [1]]
    assert all(section.offset % ALIGN == 0 for section in pack.sections.values())
    with pytest.raises(BundleError, match="section weights 0"):
        pack.file("weights")


def test_the_order_of_the_contents_does_not_matter() -> None:
    assert packed(dict(reversed(CONTENTS.items()))) == WHOLE


def test_the_layout_is_that_of_the_page() -> None:
    """Read with the offsets of docs/pack.md alone."""
    assert WHOLE[:8] == b"TOPOSPK\n" == MAGIC
    version, count, size, zero = struct.unpack_from("<IIQQ", WHOLE, 8)
    assert (version, count, size, zero) == (VERSION, len(CONTENTS), len(WHOLE), 0)
    row = WHOLE[64 + 64 * 1 :][:64]  # the second: rotation
    assert struct.unpack_from("<HHHHQQII", row) == (4, 0, 6, 0, struct.unpack_from("<Q", row, 8)[0], 36, 3, 3)
    offset = struct.unpack_from("<Q", row, 8)[0]
    assert row[32:] == hashlib.sha256(WHOLE[offset : offset + 36]).digest()
    assert np.frombuffer(WHOLE, "<f4", 9, offset).tolist() == np.eye(3).ravel().tolist()


def test_truncated_packs_are_refused(folder: Path) -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(BundleError):
            opened(WHOLE[:end], folder, verify=False)


def test_longer_packs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        opened(WHOLE + b"\0", tmp_path, verify=False)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_every_changed_byte_is_refused(folder: Path, at: int, change: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= change
    with pytest.raises(BundleError):
        opened(bytes(data), folder)


@given(st.integers(0, 64 * (1 + len(CONTENTS)) - 1), st.integers(1, 255))
def test_a_changed_table_is_refused_with_a_hash_that_vouches_for_it(
    folder: Path, at: int, change: int
) -> None:
    """Only what the table may freely say is taken: SHA-256 of sections without verification, an index."""
    data = bytearray(WHOLE)
    data[at] ^= change
    place = (at - 64) % 64
    try:
        pack = opened(resealed(bytes(data)), folder, verify=False)
    except BundleError:
        return
    sealed = 32 <= at < 64  # the hash itself was made anew
    assert sealed or (at >= 64 and (place in (2, 3) or place >= 32 or _free(data, at, place)))
    ends = [section.offset + section.size for section in pack.sections.values()]
    assert max(ends) == pack.size


def _free(data: bytes, at: int, place: int) -> bool:
    """Whether a byte of a row may change alone: rows of text, columns of nothing, one kind for another.

    The size of a text may, too: that it ends with its last string is checked when it is read.
    """
    (type_number,) = struct.unpack_from("<H", data, at - place + 4)
    text = type_number == TYPES[TEXT][0]
    return place in (0, 1) or 24 <= place < 32 or (text and 16 <= place < 24)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (8, "<I", 2), (8, "<I", 0), (12, "<I", 0), (12, "<I", 5000), (16, "<Q", 1), (24, "<Q", 1),
        (64, "<H", 9999), (68, "<H", 1), (70, "<H", 1), (72, "<Q", 1 << 63), (80, "<Q", 1 << 63),
        (88, "<I", 1 << 31), (64 + 64 + 24, "<I", 4), (64 + 64 + 28, "<I", 2), (64 + 64 + 28, "<I", 0),
        (64 * 3, "<H", 1),
    ],
)  # fmt: skip
def test_impossible_headers_and_rows_are_refused(offset: int, form: str, value: int, tmp_path: Path) -> None:
    data = bytearray(WHOLE)
    struct.pack_into(form, data, offset, value)
    with pytest.raises(BundleError) as caught:
        opened(resealed(bytes(data)), tmp_path, verify=False)
    assert "\n" not in str(caught.value)


def test_a_pack_of_a_later_version_says_so(tmp_path: Path) -> None:
    data = bytearray(WHOLE)
    struct.pack_into("<I", data, 8, VERSION + 1)
    with pytest.raises(BundleError, match="upgrade topos-rt"):
        opened(resealed(bytes(data)), tmp_path)


def test_files_that_are_no_packs(tmp_path: Path) -> None:
    for bad in (b"", b"TOPOSPK\n", b"{}" * 100):
        with pytest.raises(BundleError):
            opened(bad, tmp_path)
    for path in (tmp_path, tmp_path / "missing", "a\0b"):
        with pytest.raises(BundleError):
            Pack.open(path)


def test_a_section_that_changes_after_opening_is_refused(tmp_path: Path) -> None:
    pack = opened(WHOLE, tmp_path)
    data = bytearray(WHOLE)
    data[pack.sections["rotation", 0].offset] ^= 1
    pack.path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="rotation"):
        pack.array("rotation")


def test_text_must_be_text(tmp_path: Path) -> None:
    pack = opened(WHOLE, tmp_path)
    section = pack.sections["about", 0]
    for new in (b"\xff", b"\0"):
        data = bytearray(WHOLE)
        data[section.offset : section.offset + 1] = new
        body = bytes(data[section.offset : section.offset + section.size])
        data[64 + 32 : 64 + 64] = hashlib.sha256(body).digest()
        with pytest.raises(BundleError, match="about"):
            opened(resealed(bytes(data)), tmp_path)


def test_kinds_and_types_are_numbered_once() -> None:
    numbers = [kind.number for kind in KINDS.values()]
    assert numbers == sorted(set(numbers))
    assert [number for number, _ in TYPES.values()] == list(range(1, len(TYPES) + 1))
    assert all(kind.type in TYPES for kind in KINDS.values())
    assert {TEXT, BYTES} <= set(TYPES)
