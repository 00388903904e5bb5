from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_bundle as tiny
from tests.model.changes import set_value
from topos_rt.errors import BundleError
from topos_rt.model.manifest import GRAPHS_AT_ONCE, FileInfo, FrameSpec, Manifest, WeightsInfo

Change = Callable[[str], str | bytes]

VALID = dataclasses.replace(
    tiny.manifest(), files={"dit_step.onnx": FileInfo(3, "ab" * 32), "a/b.bin": FileInfo(0, "0" * 64)}
)


def edit(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return what changes the JSON tree in place."""

    def apply(text: str) -> str:
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree)

    return apply


def put(*keys: str, value: object) -> Change:
    """Return what sets one value."""
    return edit(set_value(*keys, value=value))


def replace(old: str, new: str) -> Change:
    def apply(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return apply


def write(text: str | bytes) -> Change:
    return lambda before: text


BAD: dict[str, tuple[Change, str]] = {
    "empty manifest": (write(""), "is not JSON"),
    "truncated manifest": (lambda text: text[:300], "is not JSON"),
    "not JSON": (write("format: topos_rt.model.bundle\n"), "is not JSON"),
    "not UTF-8": (write(b'{"format": "\xff"}'), "is not JSON"),
    "deeply nested": (write("[" * 200_000), "is not JSON"),
    "a list": (write("[]"), "expected an object"),
    "repeated key": (replace('"image": {', '"name": "a", "image": {'), "'name'"),
    "repeated key inside": (replace('"height": 32', '"height": 32, "height": 31'), "more than once"),
    "NaN": (put("frame", "radius_m", value=float("nan")), "got NaN"),
    "infinity": (put("flow", "guidance", value=float("inf")), "got Infinity"),
    "number too large": (replace("1e-05", "1e999"), "flow.sigma_min"),
    "integer of 10,000 digits": (replace('"height": 32', f'"height": 1{"0" * 10_000}'), "manifest"),
    "integer beyond float64": (replace("1e-05", "1" + "0" * 400), "flow.sigma_min"),
    "unknown key": (put("colour", value="blue"), "manifest key 'colour': got an unknown key"),
    "unknown key inside": (put("image", "depth", value=3), "manifest key 'image.depth'"),
    "unknown graph": (put("graphs", "texture", value="texture.onnx"), "manifest key 'graphs.texture'"),
    "missing key": (edit(lambda t: t.pop("latent")), "manifest key 'latent': got nothing"),
    "missing key inside": (edit(lambda t: t["frame"].pop("up")), "manifest key 'frame.up': got nothing"),
    "missing rig key": (edit(lambda t: t.pop("rig")), "manifest key 'rig'"),
    "missing landmarks key": (edit(lambda t: t.pop("landmarks")), "manifest key 'landmarks': got nothing"),
    "missing graph": (edit(lambda t: t["graphs"].pop("vae_encoder")), "graphs.vae_encoder"),
    "wrong format": (put("format", value="topos_rt.checkpoint"), "manifest key 'format'"),
    "no format": (edit(lambda t: t.pop("format")), "manifest key 'format'"),
    "newer version": (put("version", value=10), "got 10; expected 9; fix: upgrade topos-rt"),
    "older version": (put("version", value=0), "manifest key 'version': got 0"),
    "version 3": (put("version", value=3), "manifest key 'version': got 3"),
    "later keys in version 4": (put("version", value=4), "manifest key 'landmarks': got a key of a later"),
    "later keys in version 5": (put("version", value=5), "manifest key 'atlas': got a key of a later"),
    "later keys in version 6": (put("version", value=6), "manifest key 'evidence': got a key of a later"),
    "later keys in version 7": (
        put("version", value=7),
        "manifest key 'residual_scale': got a key of a later",
    ),
    "later keys in version 8": (
        put("version", value=8),
        "manifest key 'graphs_at_once': got a key of a later",
    ),
    "several heads in no precision": (
        put("graphs_at_once", value={"int8": dict.fromkeys(GRAPHS_AT_ONCE, "g.onnx")}),
        "'graphs_at_once': got 'int8'; expected only: fp16, fp32",
    ),
    "missing scale key": (edit(lambda t: t.pop("residual_scale")), "key 'residual_scale': got nothing"),
    "scale of nothing": (
        put("residual_scale", value=0.0),
        "'residual_scale': got 0.0; expected null, or 0 <",
    ),
    "text for a scale": (
        put("residual_scale", value="1"),
        "'residual_scale': got '1'; expected a finite number",
    ),
    "missing evidence key": (edit(lambda t: t.pop("evidence")), "manifest key 'evidence': got nothing"),
    "missing variation key": (edit(lambda t: t.pop("variation")), "manifest key 'variation': got nothing"),
    "text for evidence": (put("evidence", value="pose"), "'evidence': got 'pose'; expected a list"),
    "a number as evidence": (put("evidence", value=["pose", 1]), "'evidence[1]': got 1; expected a string"),
    "no evidence in a list": (put("evidence", value=[]), "'evidence': got an empty list; expected null, or"),
    "unknown evidence": (put("evidence", value=["pose", "hair"]), "got 'pose', 'hair'; expected null, or"),
    "evidence in another order": (
        put("evidence", value=["pose", "landmarks"]),
        "got 'pose', 'landmarks'; expected null, or some of these once and in this order: landmarks, pose,",
    ),
    "evidence twice": (put("evidence", value=["pose", "pose"]), "got 'pose', 'pose'; expected null, or some"),
    "number for a variation": (put("variation", value=1), "'variation': got 1; expected a string"),
    "a variation outside": (put("variation", value="../v"), "file name in manifest.json: got '../v'"),
    "missing parts key": (edit(lambda t: t.pop("parts")), "manifest key 'parts': got nothing"),
    "number for parts": (put("parts", value=1), "'parts': got 1; expected a string"),
    "missing atlas key": (edit(lambda t: t.pop("atlas")), "manifest key 'atlas': got nothing"),
    "number for an atlas": (put("atlas", value=1), "'atlas': got 1; expected a string"),
    "version as text": (put("version", value="1"), "manifest key 'version': got '1'"),
    "version as a boolean": (put("version", value=True), "manifest key 'version'"),
    "text for a number": (put("image", "height", value="32"), "image.height': got '32'; expected an integer"),
    "fraction for an integer": (put("latent", "tokens", value=6.0), "latent.tokens"),
    "boolean for an integer": (put("points", "count", value=True), "points.count"),
    "boolean for a number": (put("flow", "guidance", value=True), "flow.guidance"),
    "number for text": (put("name", value=3), "'name': got 3; expected a string"),
    "null for text": (put("description", value=None), "'description': got null"),
    "list for an object": (put("image", value=[]), "'image': got a list; expected an object"),
    "list for files": (put("files", value=[]), "'files': got a list; expected an object"),
    "number for a rig": (put("rig", value=1), "'rig': got 1; expected a string"),
    "number for landmarks": (put("landmarks", value=1), "'landmarks': got 1; expected a string"),
    "empty name": (put("name", value=""), "manifest key 'name'"),
    "line break in a text": (put("weights", "origin", value="a\nb"), "weights.origin"),
    "half a surrogate pair": (put("description", value="\ud800"), "description"),
    "zero size": (put("latent", "channels", value=0), "latent.channels"),
    "negative size": (put("image", "tokens", value=-1), "image.tokens"),
    "unknown kind of weights": (put("weights", "kind", value="stolen"), "one of: trained, official, random"),
    "sigma_min of 1": (put("flow", "sigma_min", value=1), "flow.sigma_min"),
    "negative temperature": (put("flow", "temperature", value=-0.5), "flow.temperature"),
    "negative guidance": (put("flow", "guidance", value=-0.5), "flow.guidance"),
    "no FLOPs of a graph": (edit(lambda t: t["flops"].pop("dit_step")), "one number for each of"),
    "FLOPs of another graph": (put("flops", "texture", value=1), "manifest key 'flops'"),
    "negative FLOPs": (put("flops", "dit_step", value=-1), "flops.dit_step"),
    "a fraction of FLOPs": (put("flops", "dit_step", value=0.5), "flops.dit_step"),
    "no axis": (put("frame", "up", value="y"), "frame.up"),
    "parallel axes": (put("frame", "forward", value="-z"), "perpendicular to up"),
    "radius of zero": (put("frame", "radius_m", value=0), "frame.radius_m"),
    "hash in capitals": (put("files", "dit_step.onnx", "sha256", value="A" * 64), "64 lower-case hex"),
    "negative bytes": (put("files", "dit_step.onnx", "bytes", value=-1), "files: bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_is_refused_with_one_line(case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(change(VALID.to_json()))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_it_goes_to_json_and_back() -> None:
    text = VALID.to_json()
    assert Manifest.from_json(text) == VALID and Manifest.from_json(text.encode()) == VALID
    assert Manifest.from_json(text).to_json() == text
    without = dataclasses.replace(VALID, rig=None, description="Größe – 头")
    assert Manifest.from_json(without.to_json()) == without
    seeing = dataclasses.replace(
        VALID,
        evidence=("pose", "features"),
        residual_scale=0.25,
        variation="v.safetensors",
        landmark_response="r.safetensors",
    )
    assert Manifest.from_json(seeing.to_json()) == seeing
    assert {"v.safetensors", "r.safetensors"} <= set(seeing.references())


@pytest.mark.parametrize(
    ("version", "without"),
    [
        (8, ["graphs_at_once"]),
        (7, ["graphs_at_once", "residual_scale", "landmark_response"]),
        (6, ["graphs_at_once", "residual_scale", "landmark_response", "evidence", "variation", "parts"]),
        (
            5,
            [
                "graphs_at_once",
                "residual_scale",
                "landmark_response",
                "evidence",
                "variation",
                "parts",
                "atlas",
            ],
        ),
        (
            4,
            [
                "graphs_at_once",
                "residual_scale",
                "landmark_response",
                "evidence",
                "variation",
                "parts",
                "atlas",
                "landmarks",
            ],
        ),
    ],
)
def test_older_versions_lack_keys_that_may_be_null(version: int, without: list[str]) -> None:
    tree = json.loads(VALID.to_json())
    for key in without:
        del tree[key]
    read = Manifest.from_json(json.dumps(tree | {"version": version}))
    assert read == dataclasses.replace(VALID, **dict.fromkeys(without))
    assert json.loads(read.to_json())["version"] == 9


def test_the_official_sizes_are_allowed() -> None:
    tree = json.loads(VALID.to_json())
    tree["image"] = {"height": 518, "width": 518, "tokens": 1374, "channels": 1024}
    tree["latent"] = {"tokens": 1513, "channels": 32}
    tree["points"] = {"count": 24049}
    tree["weights"]["kind"] = "official"
    assert Manifest.from_json(json.dumps(tree)).image.tokens == 1374


def test_note_on_the_weights() -> None:
    assert "random weights" in WeightsInfo("seeded", "MIT", "random").note
    assert WeightsInfo("trained on synthetic heads", "MIT", "trained").note == "trained on synthetic heads"


AXES = [sign + axis for sign in "+-" for axis in "xyz"]


@pytest.mark.parametrize("up, forward", [(u, f) for u, f in itertools.product(AXES, AXES) if u[1] != f[1]])
def test_rotation_takes_up_to_y_and_forward_to_z(up: str, forward: str) -> None:
    def vector(axis: str) -> np.ndarray:
        return np.float32([(1 if axis[0] == "+" else -1) * (name == axis[1]) for name in "xyz"])

    rotation = FrameSpec(up, forward, 1.0).rotation
    assert rotation.dtype == np.float32
    assert (rotation @ vector(up)).tolist() == [0, 1, 0]
    assert (rotation @ vector(forward)).tolist() == [0, 0, 1]
    assert np.linalg.det(rotation) == pytest.approx(1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def paths(tree: object, here: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = [p for k, v in tree.items() for p in paths(v, (*here, k))] if isinstance(tree, dict) else []
    return [here, *below]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_manifest_is_read_or_refused(data: st.DataObject) -> None:
    tree = json.loads(VALID.to_json())
    path = data.draw(st.sampled_from(paths(tree)[1:]))
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    before = copy.deepcopy(parent[path[-1]])
    kind = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if kind == "replace":
        parent[path[-1]] = data.draw(JSON)
    elif kind == "remove":
        del parent[path[-1]]
    else:
        parent[data.draw(st.text(max_size=8).filter(lambda key: key not in parent))] = before
    try:
        read = Manifest.from_json(json.dumps(tree))
    except BundleError as error:
        assert len(str(error)) < 600
    else:
        assert Manifest.from_json(read.to_json()) == read


@given(length=st.integers(0, 2000))
def test_no_part_of_a_manifest_is_read(length: int) -> None:
    text = VALID.to_json().strip()
    with pytest.raises(BundleError):
        Manifest.from_json(text[: min(length, len(text) - 1)])
