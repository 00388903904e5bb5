from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import needs
from tests import tiny_bundle as tiny
from tests.engines import graphs
from tests.landmark_maps import landmark_map
from tests.meshes import ball
from tests.model.changes import set_value
from topos_rt.errors import BundleError
from topos_rt.head.rig import Rig
from topos_rt.model import bundle as bundle_module
from topos_rt.model import bundle_files
from topos_rt.model.bundle import Bundle, known_bundles, write_manifest
from topos_rt.model.manifest import Manifest

Change = Callable[[Path], object]


def edit(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return what changes the manifest's JSON tree in place."""

    def apply(path: Path) -> None:
        tree = json.loads((path / "manifest.json").read_text())
        change(tree)
        (path / "manifest.json").write_text(json.dumps(tree))

    return apply


def put(*keys: str, value: object) -> Change:
    """Return what sets one value in the manifest."""
    return edit(set_value(*keys, value=value))


def flip_a_byte(path: Path) -> None:
    file = path / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


def to_outside(path: Path) -> None:
    """Replace a file by a link to the same bytes outside the bundle."""
    outside = path.parent / "outside.onnx"
    (path / "dit_step.onnx").rename(outside)
    (path / "dit_step.onnx").symlink_to(outside)


def rename_in_manifest(name: str) -> Change:
    def change(tree: dict[str, Any]) -> None:
        tree["graphs"]["dit_step"] = name
        tree["files"][name] = tree["files"].pop("dit_step.onnx")

    return edit(change)


def another_rig(path: Path) -> None:
    rig = Rig.load(path / "rig.safetensors")
    dataclasses.replace(rig, skin_joints=rig.skin_joints[:-1], skin_weights=rig.skin_weights[:-1]).save(
        path / "rig.safetensors"
    )
    write_manifest(path, Manifest.from_json((path / "manifest.json").read_bytes()))


def no_topology(path: Path) -> None:
    (path / "rig.safetensors").replace(path / "topology.safetensors")
    manifest = Manifest.from_json((path / "manifest.json").read_bytes())
    write_manifest(path, dataclasses.replace(manifest, rig=None))


def graph(change: Callable[[bytes], bytes], in_manifest: str | None = None) -> Change:
    """Return what changes an ONNX file, its hash and, if given, the file of its weights in the manifest."""

    def alter(path: Path) -> None:
        file = path / "dit_step.onnx"
        file.write_bytes(change(file.read_bytes()))
        tree = json.loads((path / "manifest.json").read_text())
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        tree["files"][file.name] = {"bytes": file.stat().st_size, "sha256": digest}
        tree["weight_files"][file.name] = in_manifest or tree["weight_files"][file.name]
        (path / "manifest.json").write_text(json.dumps(tree))

    return alter


def located(*locations: str) -> Callable[[bytes], bytes]:
    """Return what points the tensors of a graph at these files, in turn."""

    def change(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        for tensor, location in zip(model.graph.initializer, itertools.cycle(locations)):
            tensor.external_data[0].value = location
        return bytes(model.SerializeToString())

    return change


def hidden(data: bytes) -> bytes:
    """Add a reference to weights outside, in a constant, with the key's length written in two bytes."""
    tensor = graphs.external("w", "../w.st", [3])
    node = onnx.helper.make_node("Constant", [], ["w"], value=tensor)
    node.name = "location"  # the word, where no reference is
    model = onnx.load_from_string(data)
    model.graph.node.append(node)
    return bytes(model.SerializeToString())


def write(text: str | bytes) -> Change:
    return lambda path: (path / "manifest.json").write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )


BAD: dict[str, tuple[Change, str]] = {
    "bad hash": (flip_a_byte, "sha256 of bundle file weights.safetensors"),
    "wrong hash in the manifest": (put("files", "dit_step.onnx", "sha256", value="0" * 64), "sha256"),
    "wrong size": (lambda p: (p / "dit_step.onnx").write_bytes(b"x"), "size of bundle file dit_step.onnx"),
    "missing file": (lambda p: (p / "vae_decoder.onnx").unlink(), "vae_decoder.onnx: got no such file"),
    "directory for a file": (
        lambda p: ((p / "dit_step.onnx").unlink(), (p / "dit_step.onnx").mkdir()),
        "a directory or device",
    ),
    "unlisted file": (lambda p: (p / "extra.bin").write_bytes(b""), "does not list: got 'extra.bin'"),
    "unlisted file in a folder": (
        lambda p: ((p / "a").mkdir(), (p / "a" / "b").write_bytes(b"")),
        "does not list: got 'a/b'",
    ),
    "unlisted link to a folder": (lambda p: (p / "up").symlink_to(".."), "does not list: got 'up'"),
    "empty reference": (put("topology", value=""), "file name in manifest.json: got ''"),
    "empty rig": (put("rig", value=""), "file name in manifest.json: got ''"),
    "reference that is not listed": (edit(lambda t: t["files"].pop("rig.safetensors")), "rig.safetensors"),
    "referenced file nowhere": (
        put("topology", value="other.safetensors"),
        "no entry for 'other.safetensors'",
    ),
    "path with ..": (rename_in_manifest("../own/dit_step.onnx"), "got '../own/dit_step.onnx'"),
    "path with .. inside": (rename_in_manifest("a/../dit_step.onnx"), "got 'a/../dit_step.onnx'"),
    "absolute path": (rename_in_manifest("/etc/passwd"), "got '/etc/passwd'"),
    "drive": (rename_in_manifest("C:dit_step.onnx"), "got 'C:dit_step.onnx'"),
    "backslash": (rename_in_manifest("..\\dit_step.onnx"), "file name in manifest.json"),
    "NUL in a path": (rename_in_manifest("dit\0step.onnx"), "control characters"),
    "empty path": (rename_in_manifest(""), "file name in manifest.json"),
    "path to a folder": (rename_in_manifest("dit_step.onnx/"), "file name in manifest.json"),
    "manifest that lists itself": (put("files", "manifest.json", value={}), "files.manifest.json.bytes"),
    "manifest as a graph": (put("graphs", "dit_step", value="manifest.json"), "file name in manifest.json"),
    "link out of the bundle": (to_outside, "a link to"),
    "link to nothing": (
        lambda p: ((p / "dit_step.onnx").unlink(), (p / "dit_step.onnx").symlink_to("none")),
        "no such file",
    ),
    "link to itself": (
        lambda p: ((p / "dit_step.onnx").unlink(), (p / "dit_step.onnx").symlink_to("dit_step.onnx")),
        "bundle file dit_step.onnx",
    ),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json: got no such file"),
    "manifest is a directory": (
        lambda p: ((p / "manifest.json").unlink(), (p / "manifest.json").mkdir()),
        "a directory or device",
    ),
    "empty manifest": (write(b""), "is not JSON"),
    "truncated manifest": (lambda p: os.truncate(p / "manifest.json", 300), "is not JSON"),
    "not JSON": (write(b"format: topos_rt.model.bundle\n"), "is not JSON"),
    "manifest too large": (write(b" " * (1 << 20) + b"{}"), "more than 1 MiB"),
    "unknown key": (put("colour", value="blue"), "manifest key 'colour': got an unknown key"),
    "wrong version": (put("version", value=10), "got 10; expected 9; fix: upgrade topos-rt"),
    "weights outside": (
        graph(located("../w.st")),
        "file of the weights of graph dit_step.onnx: got ../w.st; expected weights.safetensors",
    ),
    "weights outside, told so": (
        graph(located("../w.st"), "../w.st"),
        "file name in manifest.json: got '../w.st'",
    ),
    "weights at an absolute path": (graph(located("/w.st")), "got /w.st; expected weights.safetensors"),
    "weights in two files": (
        graph(located("weights.safetensors", "rig.safetensors")),
        "weights of graph dit_step.onnx: got several files: rig.safetensors, weights.safetensors",
    ),
    "a hidden reference": (graph(hidden), "weights of graph dit_step.onnx: got references in another form"),
    "weights of no graph": (
        put("weight_files", "rig.safetensors", value="weights.safetensors"),
        "file of the weights of graph rig.safetensors: got none; expected weights.safetensors",
    ),
    "rig of another head": (another_rig, "rig and topology of a bundle do not fit"),
    "landmarks that are not listed": (
        put("landmarks", value="a.safetensors"),
        "no entry for 'a.safetensors'",
    ),
    "rig for a topology": (no_topology, "topology"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bundle_is_refused_with_one_line(case: str, own_bundle: Path) -> None:
    change, message = BAD[case]
    change(own_bundle)
    with pytest.raises(BundleError) as caught:
        Bundle.open(own_bundle)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_bundle_that_a_killed_process_moved_aside_is_put_back(own_bundle: Path) -> None:
    own_bundle.rename(own_bundle.with_name(f".{own_bundle.name}.topos-rt-old"))
    assert Bundle.open(own_bundle).manifest.name == "tiny"
    assert own_bundle.is_dir()


def test_open(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert bundle.manifest.name == "tiny" and bundle.manifest.image.height == tiny.SIDE
    assert np.array_equal(bundle.topology.triangles, tiny.HEAD.topology.triangles)
    assert bundle.rig is not None and bundle.rig.shape_names == ("jawOpen", "browInnerUp")
    assert bundle.graph("dit_step") == tiny_bundle / "dit_step.onnx"
    assert len(bundle.hierarchy.levels) == 3 and bundle.hierarchy is bundle.hierarchy
    assert set(bundle.manifest.files) == {p.name for p in tiny_bundle.iterdir()} - {"manifest.json"}


def test_without_a_rig(own_bundle: Path) -> None:
    (own_bundle / "rig.safetensors").unlink()
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    write_manifest(own_bundle, dataclasses.replace(manifest, rig=None))
    assert Bundle.open(own_bundle).rig is None


def test_landmarks_are_read_once(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert bundle.landmarks is not None and bundle.landmarks is bundle.landmarks
    assert bundle.landmarks.num_vertices == bundle.topology.num_vertices


def test_without_landmarks(own_bundle: Path) -> None:
    (own_bundle / "landmarks.safetensors").unlink()
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    write_manifest(own_bundle, dataclasses.replace(manifest, landmarks=None))
    assert Bundle.open(own_bundle).landmarks is None


def test_landmarks_of_another_topology_are_refused(own_bundle: Path) -> None:
    landmark_map(ball().topology).save(own_bundle / "landmarks.safetensors")
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    write_manifest(own_bundle, manifest)
    with pytest.raises(BundleError, match="landmark map and topology of a bundle do not fit"):
        _ = Bundle.open(own_bundle).landmarks


def test_files_in_folders_and_links_that_stay_inside(own_bundle: Path) -> None:
    (own_bundle / "docs").mkdir()
    (own_bundle / "docs" / "CARD.md").write_text("What this is.")
    (own_bundle / "CARD.md").symlink_to("docs/CARD.md")
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    written = write_manifest(own_bundle, manifest)
    assert written.files["CARD.md"] == written.files["docs/CARD.md"]
    assert Bundle.open(own_bundle).manifest == written


def test_without_verification_only_hashes_are_not_looked_at(own_bundle: Path) -> None:
    flip_a_byte(own_bundle)
    Bundle.open(own_bundle, verify=False)
    (own_bundle / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="size"):
        Bundle.open(own_bundle, verify=False)


def test_a_pipe_is_refused_without_opening_it(own_bundle: Path) -> None:
    needs.machine(hasattr(os, "mkfifo"), "there are no named pipes")
    (own_bundle / "dit_step.onnx").unlink()
    os.mkfifo(own_bundle / "dit_step.onnx")
    with pytest.raises(BundleError, match="a directory or device"):
        Bundle.open(own_bundle)


def test_sizes_are_compared_before_anything_is_hashed(
    own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(path: Path) -> str:
        raise AssertionError(path)

    put("files", "dit_context.onnx", "bytes", value=1)(own_bundle)
    monkeypatch.setattr(bundle_files, "_sha256", never)
    with pytest.raises(BundleError, match="size of bundle file dit_context"):
        Bundle.open(own_bundle)


def test_names_of_packaged_bundles(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_PACKAGED", tiny_bundle.parent)
    assert known_bundles() == {"tiny": tiny_bundle}
    assert Bundle.open("tiny").path == tiny_bundle
    with pytest.raises(BundleError, match=r"got 'tinny'; expected a packaged model \(tiny\)"):
        Bundle.open("tinny")


@pytest.mark.parametrize("model", ["no/such/place", "", "a\0b", Path("no-such-place")])
def test_no_such_model(model: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        Bundle.open(model)


def test_a_file_is_no_bundle(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="name its directory"):
        Bundle.open(tiny_bundle / "manifest.json")


def test_write_manifest_refuses_what_could_not_be_opened(own_bundle: Path) -> None:
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    before = (own_bundle / "manifest.json").read_bytes()
    (own_bundle / "rig.safetensors").rename(own_bundle / "other.safetensors")
    with pytest.raises(BundleError, match=r"no entry for 'rig\.safetensors'"):
        write_manifest(own_bundle, manifest)
    with pytest.raises(BundleError, match="description"):
        write_manifest(own_bundle, dataclasses.replace(manifest, rig=None, description="two\nlines"))
    (own_bundle / "a name with spaces").write_text("")
    with pytest.raises(BundleError, match="file name"):
        write_manifest(own_bundle, dataclasses.replace(manifest, rig=None))
    assert (own_bundle / "manifest.json").read_bytes() == before


def test_light_modules_load_neither_engines_nor_image_code() -> None:
    code = (
        "import sys, topos_rt.model.bundle, topos_rt.flow.settings, topos_rt.engines; "
        "print([m for m in ('torch', 'onnxruntime', 'PIL', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
