"""Arrays from files of others: read as NumPy reads them, or refused before memory is taken."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.support.npyfile import read_arrays

GOOD = [
    np.arange(12, dtype=np.float32).reshape(4, 3),
    np.asfortranarray(np.arange(12, dtype=">i8").reshape(4, 3)),
    np.zeros((0, 3), np.float64),
    np.float32(7),
    np.array(["a", "bc"]),
    np.zeros(2, [("x", "<f4"), ("y", "<i2")]),
]


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Encode an .npy file with any header."""
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(shape: str, dtype: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


ONE = npy(header("(2,)"), bytes(8))
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "neither an .npy nor an .npz file"),
    "text": (b"1 2 3", "neither"),
    "a pickle": (pickle.dumps([1]), "neither"),
    "header not closed": (npy("{'descr': '<f4', 'shape': ("), "a damaged file"),
    "header of an open string": (npy("{'descr': '''<f4"), "a damaged file"),
    "deep header": (npy("(" * 5000), "a damaged file"),
    "header too long": (npy(header("(1,)") + " " * 20_000), "a damaged file"),
    "header cut off": (b"\x93NUMPY\x01\x00\xff", "a damaged file"),
    "no header": (b"\x93NUMPY", "a damaged file"),
    "version 9": (npy(header("(1,)"), version=(9, 0)), "version 9.0 of the .npy format"),
    "objects": (npy(header("(1,)", "'|O'"), bytes(8)), "pickled objects"),
    "objects in a structure": (npy(header("(1,)", "[('x', '|O')]"), bytes(8)), "pickled objects"),
    "64 GiB declared": (npy(header("(17179869184,)"), bytes(8)), "an array of 68,719,476,736 bytes"),
    "more than 2**64": (npy(header("(99999999999, 99999999999)"), bytes(8)), "an array of"),
    "thousands of digits": (npy(header(f"({'9' * 5000},)"), bytes(8)), "a"),
    "nothing times 2**62": (npy(header("(0, 4611686018427387904)")), "a damaged file"),
    "negative": (npy(header("(-2, -2)"), bytes(16)), "an array of shape [-2, -2]"),
    "many dimensions": (npy(header("(" + "1," * 40 + ")"), bytes(4)), "an array of shape"),
    "no size": (npy(header("(1000000000000,)", "'|V0'")), "an array whose items have no size"),
    "data cut off": (ONE[:-1], "7 bytes of an array of 8"),
    "archive cut off": (npz(a=ONE)[:-30], "a damaged file"),
    "no array in an archive": (npz(a=b"bytes"), "a damaged file"),
    "objects in an archive": (npz(a=npy(header("(1,)", "'|O'"), bytes(8))), "pickled objects"),
    "a bomb": (npz(a=npy(header("(2000000000,)", "'|u1'"), bytes(1 << 20))), "of 2,000,000,000 bytes"),
    "an honest bomb": (npz(a=npy(header("(30000000,)", "'|u1'"), bytes(30_000_000))), "20,000,000 allowed"),
    "many members": (npz(**{f"m{i}": b"" for i in range(1001)}), "an archive of 1,001 files"),
}  # fmt: skip


def damaged_data(archive: bytes) -> bytes:
    at = archive.index(b"a.npy") + 8
    return archive[:at] + bytes(b ^ 0x55 for b in archive[at : at + 20]) + archive[at + 20 :]


BAD["damaged data"] = (damaged_data(npz(a=npy(header("(99,)"), bytes(range(99)) * 4))), "a damaged file")


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_refused_before_memory_is_taken(case: str, tmp_path: Path) -> None:
    data, told = BAD[case]
    (tmp_path / "x").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^(an?|neither|version|pickled|[0-9,]+) ") as caught:
            read_arrays(tmp_path / "x", 20_000_000)
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()
    assert told in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_what_numpy_writes_is_read(number: int, tmp_path: Path) -> None:
    want = np.asarray(GOOD[number])
    np.save(tmp_path / "a.npy", want)
    np.savez_compressed(tmp_path / "b.npz", a=want, b=want)
    found = read_arrays(tmp_path / "a.npy")
    assert isinstance(found, np.ndarray) and found.dtype == want.dtype and np.array_equal(found, want)
    both = read_arrays(tmp_path / "b.npz")
    assert isinstance(both, dict) and list(both) == ["a", "b"] and np.array_equal(both["b"], want)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "x")


SEEDS: list[Callable[[], bytes]] = [
    lambda: ONE,
    lambda: npz(a=ONE, b=ONE),
    lambda: npy(header("(3, 2)"), bytes(24)),
]


@settings(deadline=None, max_examples=300)
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 400), new=st.binary(max_size=6))
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, seed: Callable[[], bytes], at: int, new: bytes
) -> None:
    path = tmp_path_factory.mktemp("npy") / "x"
    data = seed()
    path.write_bytes(data[:at] + new + data[at + len(new) :])
    try:
        read_arrays(path)
    except ValueError as error:
        assert len(str(error)) < 200
