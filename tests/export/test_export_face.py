"""The networks of the face stage are those of the packages, and files of other versions are refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from topos_rt.errors import InputError
from topos_rt.faces.bundle import NETWORKS, FaceBundle

needs.module("ai_edge_litert.interpreter")
needs.module("dlib")

from export.__main__ import main
from export.face import canonical, dlib_resnet, sources, tflite
from export.face.sources import SOURCES, Source, read_source

FETCHES = sorted({source.package for source in SOURCES.values()})


def test_the_bundle_is_made_again_from_the_packages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every network is compared with its original, run by LiteRT or dlib, and is the one that ships."""
    packages = needs.packages(*FETCHES)
    out = tmp_path / "face"
    assert main(["face", "--packages", str(packages), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in NETWORKS) and "face, 5 files" in told
    made, shipped = FaceBundle.open(out), FaceBundle.open()
    assert made.manifest.graphs == shipped.manifest.graphs
    for name in ("canonical.safetensors", *made.manifest.graph_files()):
        assert (made.path / name).read_bytes() == (shipped.path / name).read_bytes()
    assert sum(info.bytes for info in shipped.manifest.files.values()) <= 20e6


def zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


OTHER = Source("npm pack other", "other.tgz", ("package/a", "b"), "0" * 64)
ARCHIVES = {
    "none": (None, "no such file.*npm pack other"),
    "no archive": (b"hello", "ReadError"),
    "another member": (tarred("package/c", b"x"), "KeyError"),
    "no archive inside": (tarred("package/a", b"x"), "ReadError"),
    "another member inside": (tarred("package/a", zipped("c", b"x")), "KeyError"),
    "another version": (tarred("package/a", zipped("b", b"x")), "SHA-256 .*; expected 0000"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_wrong_archives_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, message = ARCHIVES[case]
    monkeypatch.setitem(sources.SOURCES, "other", OTHER)
    if data is not None:
        (tmp_path / OTHER.archive).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_source("other", tmp_path)


def test_a_missing_package_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["face", "--packages", str(tmp_path), "--out", str(tmp_path / "face")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such file" in line and "fix: " in line
    assert not (tmp_path / "face").exists()


def test_another_dlib_file_is_refused() -> None:
    with pytest.raises(InputError, match="no tensor"):
        dlib_resnet.convert(b"\1\2" * 5000, "pixels", ("embedding", "features"), "face_identity")


def test_a_canonical_face_without_a_mesh_is_refused() -> None:
    with pytest.raises(InputError, match="0 vertex numbers"):
        canonical.read_canonical(b"")


def test_numbers_of_dlib() -> None:
    assert dlib_resnet._varint(2) == b"\1\2" and dlib_resnet._varint(300) == b"\2\x2c\1"


def test_pairs_of_the_canonical_face() -> None:
    points = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 1]], np.float32)
    assert canonical.mirrored(points).tolist() == [1, 0, 2]


def test_an_operator_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = needs.packages(*FETCHES)
    monkeypatch.delitem(tflite._OPERATORS, "CONV_2D")
    with pytest.raises(InputError, match="got CONV_2D; expected one of: ADD"):
        tflite.convert(read_source("face_detector", packages), ["pixels"], ["boxes", "scores"], "detector")
