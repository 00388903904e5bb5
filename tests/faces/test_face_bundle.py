"""The face bundle: the packaged one is sound, and a damaged one is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topos_rt.engines import EngineOptions
from topos_rt.errors import BundleError, InputError
from topos_rt.faces.bundle import NETWORKS, FaceBundle, write_face_manifest
from topos_rt.faces.networks import LOOKED_WITH, FaceNetworks
from topos_rt.support.tensorfile import read_tensors, write_tensors


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the packaged face bundle that a test may change."""
    return Path(shutil.copytree(FaceBundle.open().path, tmp_path / "face"))


def test_the_packaged_one() -> None:
    bundle = FaceBundle.open()
    assert set(bundle.manifest.graphs) == set(NETWORKS)
    assert "Apache-2.0" in bundle.manifest.licence and "CC0" in bundle.manifest.licence
    assert all(bundle.graph(name).is_file() for name in NETWORKS)


def change(edit: Callable[[dict], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        tree = json.loads((path / "face.json").read_text())
        edit(tree)
        (path / "face.json").write_text(json.dumps(tree))

    return damage


def tensors(edit: Callable[[dict], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        arrays, _ = read_tensors(path / "canonical.safetensors")
        arrays = {name: array.copy() for name, array in arrays.items()}
        edit(arrays)
        write_tensors(path / "canonical.safetensors", arrays, {})
        write_face_manifest(path, FaceBundle.open().manifest)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda path: (path / "face.json").unlink(), "face.json: got no such file"),
    "no JSON": (lambda path: (path / "face.json").write_text("{"), "not JSON"),
    "another format": (
        change(lambda tree: tree.update(format="topos_rt.bundle")),
        "format.*expected 'topos_rt.face'",
    ),
    "another version": (change(lambda tree: tree.update(version=1)), "version.*got 1; expected 2"),
    "an unknown key": (change(lambda tree: tree.update(extra=1)), "extra"),
    "a missing network": (
        change(lambda tree: tree["graphs"].pop("face_identity")),
        "graphs.*expected one for each",
    ),
    "a network too many": (change(lambda tree: tree["graphs"].update(hair="h.onnx")), "graphs"),
    "a network outside": (
        change(lambda tree: tree["graphs"].update(face_detector="../d.onnx")),
        "no entry for '../d.onnx'",
    ),
    "an altered file": (
        lambda path: (path / "face_expression.onnx").write_bytes(b"x"),
        "size of bundle file",
    ),
    "a missing file": (lambda path: (path / "face_expression.onnx").unlink(), "no such file"),
    "an unlisted file": (lambda path: (path / "more").write_bytes(b""), "does not list"),
    "a canonical face too short": (
        tensors(lambda arrays: arrays.update(positions=arrays["positions"][:-1])),
        r"positions: got \(467, 3\)",
    ),
    "NaN": (tensors(lambda arrays: arrays["positions"].fill(np.nan)), "canonical face, positions"),
    "ids out of range": (tensors(lambda arrays: arrays["mirrored"].fill(468)), "mirrored.*ids out of range"),
    "a tensor too few": (tensors(lambda arrays: arrays.pop("weights")), "canonical.safetensors"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_refused(case: str, own: Path) -> None:
    damage, message = DAMAGES[case]
    damage(own)
    with pytest.raises(BundleError, match=message) as caught:
        FaceBundle.open(own)
    assert "\n" not in str(caught.value)


def test_a_hash_is_checked_unless_told_otherwise(own: Path) -> None:
    data = bytearray((own / "face_expression.onnx").read_bytes())
    data[-1] ^= 1
    (own / "face_expression.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="sha256"):
        FaceBundle.open(own)
    FaceBundle.open(own, verify=False)


def test_a_network_of_other_shapes_is_refused(own: Path) -> None:
    shutil.copy(own / "face_expression.onnx", own / "face_detector.onnx")
    write_face_manifest(own, FaceBundle.open().manifest)
    with (
        FaceNetworks("onnxruntime", EngineOptions(1), FaceBundle.open(own)) as networks,
        pytest.raises(BundleError, match="inputs of face_detector"),
    ):
        networks.load()


def test_networks_load_when_they_are_needed_and_close() -> None:
    networks = FaceNetworks("onnxruntime", EngineOptions(1))
    networks.load()
    assert set(networks._engines) == set(LOOKED_WITH)  # the identity network only if asked for
    made = networks.identity(np.zeros((1, 150, 150, 3), np.float32))
    assert [array.shape for array in made] == [(1, 128), (1, 128, 8, 8)]
    assert networks.requirements(NETWORKS) == {}  # on a CPU
    networks.close()
    with pytest.raises(InputError, match="closed"):
        networks.detect(np.zeros((1, 192, 192, 3), np.float32))
