"""A new bundle takes over the geometry of the one before, and stays whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.tensorfile import read_tensors, write_tensors
from training.keep_geometry import FILES, keep


@pytest.fixture
def other(tmp_path: Path) -> Bundle:
    """A copy of `mini` whose landmarks are noisier."""
    path = Path(shutil.copytree(Bundle.open("mini").path, tmp_path / "other"))
    tensors, metadata = read_tensors(path / "landmarks.safetensors")
    tensors["noise"] *= 2
    write_tensors(path / "landmarks.safetensors", tensors, metadata)
    write_manifest(path, Bundle.open("mini").manifest)
    return Bundle.open(path)


def test_files_are_those_of_the_earlier_bundle(other: Bundle) -> None:
    mini = Bundle.open("mini")
    assert other.landmarks is not None and mini.landmarks is not None
    assert other.landmarks.noise[0] == 2 * mini.landmarks.noise[0]
    keep(mini, other)
    for name in FILES:
        file = f"{name}.safetensors"
        assert (other.path / file).read_bytes() == (mini.path / file).read_bytes()
    assert Bundle.open(other.path).manifest.files == mini.manifest.files


def test_heads_of_other_polygons_are_refused(other: Bundle, tiny_bundle: Path) -> None:
    before = (other.path / "topology.safetensors").read_bytes()
    with pytest.raises(InputError, match="other polygons"):
        keep(Bundle.open(tiny_bundle), other)
    assert (other.path / "topology.safetensors").read_bytes() == before
