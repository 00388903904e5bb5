"""GLB: no size that a file declares is believed, and damage is told in one line."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.glb_ways import POINTS, TRIANGLES, assert_same, read, skinned, sparse
from tests.formats.glbs import Glb, container, plain
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats.limits import Limits


def accessor_without_data(count: int) -> Callable[[], Glb]:
    def make() -> Glb:
        glb = plain(POINTS, TRIANGLES)
        glb.document["accessors"][0] = {"componentType": 5126, "count": count, "type": "VEC3"}
        return glb

    return make


def many(**node: Any) -> Callable[[], Glb]:
    def make() -> Glb:
        glb = plain(POINTS, TRIANGLES)
        glb.document["nodes"] = [{"mesh": 0, **node} for _ in range(200_000)]
        glb.document["scenes"][0]["nodes"] = list(range(200_000))
        return glb

    return make


def many_primitives() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["meshes"][0]["primitives"] *= 30_000
    return glb


def many_morphs() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    target = {"POSITION": glb.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]}
    glb.document["meshes"][0]["primitives"][0]["targets"] = [target] * 1_000_000
    glb.document["meshes"][0]["weights"] = [1] * 1_000_000
    return glb


def index_count() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["accessors"][1]["count"] = 15_000_000
    return glb


def sparse_count() -> Glb:
    glb = sparse(True)()
    glb.document["accessors"][0]["sparse"]["count"] = 10**12
    return glb


def long_buffer() -> Glb:
    glb = plain(POINTS, TRIANGLES)
    glb.document["buffers"] = [{"byteLength": 2**40}]
    return glb


CLAIMS: dict[str, tuple[Callable[[], Glb], str]] = {
    "1e8 vertices without data": (accessor_without_data(10**8), "got 100,000,000 vertices"),
    "1e7 vertices without data": (accessor_without_data(10**7), "10000000 elements without data"),
    "1e30 vertices": (accessor_without_data(10**30), "vertices; expected at most"),
    "indices past the end": (index_count, "triangles|past the end"),
    "sparse values past the end": (sparse_count, "past the end"),
    "a buffer past the end": (long_buffer, "longer than its data"),
    "instances": (many(), "got 17,200,000 vertices|triangles; expected at most"),
    "primitives": (many_primitives, "got .* primitives; expected at most 20,000"),
    "morph targets": (many_morphs, "got 86,000,000 rig values; expected at most"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_declared_size_takes_no_memory(case: str, tmp_path: Path) -> None:
    make, message = CLAIMS[case]
    data = make().bytes()
    tracemalloc.start()
    try:
        with pytest.raises(MeshInputError, match=message):
            read(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(data) + 2**20


def test_many_small_instances_are_read_at_once(tmp_path: Path) -> None:
    glb = plain(np.eye(3), np.array([[0, 1, 2]]))
    glb.document["nodes"] = [{"mesh": 0, "translation": [i, 0, 0]} for i in range(200_000)]
    glb.document["scenes"][0]["nodes"] = list(range(200_000))
    mesh = read(tmp_path, glb)
    assert len(mesh.topology.triangles) == 200_000
    assert mesh.positions[-3:].tolist() == [[200_000, 0, 0], [199_999, 1, 0], [199_999, 0, 1]]


def test_limits_are_the_callers(tmp_path: Path) -> None:
    data = plain(POINTS, TRIANGLES).bytes()
    for kind, most, got in (
        ("vertices", len(POINTS) - 1, f"{len(POINTS)} vertices"),
        ("triangles", len(TRIANGLES) - 1, f"{len(TRIANGLES)} triangles"),
        ("file_bytes", len(data) - 1, "0 MiB"),
        ("json_bytes", 99, "0 MiB of JSON"),
    ):
        with pytest.raises(MeshInputError, match=f"got {got}; expected at most"):
            read(tmp_path, data, Limits(**{kind: most}))
    assert_same(read(tmp_path, data, Limits(vertices=len(POINTS), triangles=len(TRIANGLES))))
    with pytest.raises(OptionError, match="limit triangles: got 0"):
        Limits(triangles=0)


def changed(path: tuple[Any, ...], value: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        glb = skinned()
        place: Any = glb.document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return glb.bytes()

    return make


ACCESSOR = ("accessors", 0)
DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut": (lambda: skinned().bytes()[:3000], "got 3,000 of the"),
    "another file": (lambda: b"o head\n" * 9, "a file that is no binary glTF"),
    "version 1": (lambda: b"glTF\1\0\0\0" + bytes(20), "version 1 of glTF"),
    "deep": (lambda: container(b"[" * 99_999, b""), "damaged contents"),
    "a list": (lambda: container(b"[]", b""), "JSON that is not an object"),
    "a long number": (lambda: container(b"9" * 5000, b""), "damaged contents"),
    "no nodes": (changed(("nodes",), 5), "damaged contents"),
    "a circle": (changed(("nodes", 2), {"children": [1]}), "damaged contents"),
    "two parents": (changed(("nodes", 0, "children"), [2]), "damaged contents"),
    "a strange child": (changed(("nodes", 1, "children"), [99]), "nodes has no entry 99"),
    "a negative child": (changed(("nodes", 1, "children"), [-1]), "damaged contents"),
    "a joint that is no node": (changed(("skins", 0, "joints"), [1, 99]), "nodes has no entry 99"),
    "a joint too few": (changed(("skins", 0, "joints"), [1]), "joint 1 of a skin of 1"),
    "NaN in a node": (changed(("nodes", 1, "scale"), [float("nan")] * 3), "not finite"),
    "a type": (changed((*ACCESSOR, "type"), "VEC7"), "damaged contents"),
    "a component type": (changed((*ACCESSOR, "componentType"), 5130), "damaged contents"),
    "a count of words": (changed((*ACCESSOR, "count"), "many"), "count many"),
    "a count below zero": (changed((*ACCESSOR, "count"), -1), "count -1"),
    "no positions": (changed(("meshes", 0, "primitives", 0, "attributes"), {}), "damaged contents"),
    "a mode": (changed(("meshes", 0, "primitives", 0, "mode"), 9), "damaged contents"),
    "an index past the end": (lambda: plain(POINTS, TRIANGLES + 1).bytes(), "in a triangle, where there are"),
    "NaN": (lambda: plain(POINTS * np.nan, TRIANGLES).bytes(), "not finite"),
    "outside": (changed(("buffers",), [{"uri": "head.bin", "byteLength": 9}]), "data outside of the file"),
    "an extension": (changed(("extensionsRequired",), ["OWN_folding"]), "needs OWN_folding"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files(case: str, tmp_path: Path) -> None:
    make, message = DAMAGE[case]
    with pytest.raises(MeshInputError, match=message) as caught:
        read(tmp_path, make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "name", ["KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp", "VRMC_vrm"]
)
def test_extensions_that_say_nothing_of_geometry_do_not_matter(name: str, tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["extensionsRequired"] = [name]
    assert_same(read(tmp_path, glb))


def test_metadata_may_be_anything(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["extras"] = json.loads('{"a": [1, "ä\\u0000"], "b": null}')
    assert_same(read(tmp_path, glb))
