"""The C library's folder of optimised graphs: the same heads, whatever is in it."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import Handle
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents

LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
NO_FACES = 4
FILES = ["graph.onnx", "sizes.txt", "weights.bin"]


@contextmanager
def logged(api: capi.Api, ort: Path, **options: Any) -> Iterator[tuple[Handle, list[str]]]:
    lines: list[str] = []
    callback = LOG(lambda user, level, line: lines.append(line.decode()))
    with capi.runtime(api, ort, log=ctypes.cast(callback, ctypes.c_void_p).value, **options) as made:
        yield made, lines


def head(api: capi.Api, rt: Handle, pack: Path) -> bytes:
    """The bytes of a head of a model that is loaded for it, guidance included."""
    model = capi.load(api, rt, pack, 0)
    image = capi.image(smooth(64, 48))
    (made,) = capi.generate(api, model, capi.request([image], [1], steps=2, guidance=1.5))
    positions, normals = capi.vertices(api, model, made)
    api.call("head_release", made)
    api.call("model_release", model)
    return positions.tobytes() + normals.tobytes()


@pytest.fixture(scope="module")
def plain(api: capi.Api, rt: Handle, packs: Any) -> bytes:
    return head(api, rt, packs["seeing"][1])


@pytest.fixture
def filled(api: capi.Api, ort: Path, packs: Any, plain: bytes, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    with logged(api, ort, cache_dir=str(folder).encode()) as (rt, lines):
        assert head(api, rt, packs["seeing"][1]) == plain
        assert not lines
    return folder


def test_heads_are_the_same_and_the_folder_is_whole(
    api: capi.Api, ort: Path, packs: Any, plain: bytes, filled: Path
) -> None:
    entries = sorted(filled.iterdir())
    names = sorted(entry.name.rpartition("-")[0] for entry in entries)
    assert names == sorted(
        ["image_encoder", "dit_modulation", "dit_context", "dit_step", "dit_step_guided", "vae_decoder",
         "face_detector", "face_landmarks", "face_expression"]
    )  # fmt: skip
    for entry in entries:
        assert sorted(file.name for file in entry.iterdir()) in (FILES, FILES[:2])
    times = [file.stat().st_mtime_ns for entry in entries for file in entry.iterdir()]
    with logged(api, ort, cache_dir=str(filled).encode()) as (rt, lines):
        assert head(api, rt, packs["seeing"][1]) == plain
        assert not lines
    assert times == [file.stat().st_mtime_ns for entry in entries for file in entry.iterdir()]


@pytest.mark.parametrize("damage", ["no sizes", "short weights", "other graph", "no graph"])
def test_what_is_damaged_is_made_again(
    damage: str, api: capi.Api, ort: Path, packs: Any, plain: bytes, filled: Path
) -> None:
    for entry in filled.iterdir():
        weights, graph = entry / "weights.bin", entry / "graph.onnx"
        if damage == "no sizes":
            (entry / "sizes.txt").unlink()
        elif damage == "short weights" and weights.exists():
            weights.write_bytes(weights.read_bytes()[:-64])
        elif damage == "other graph":
            graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
        elif damage == "no graph":
            graph.unlink()
    with logged(api, ort, cache_dir=str(filled).encode()) as (rt, _):
        assert head(api, rt, packs["seeing"][1]) == plain
    assert all((entry / "sizes.txt").exists() for entry in filled.iterdir())


def test_another_graph_in_its_place_is_refused(
    api: capi.Api, ort: Path, packs: Any, plain: bytes, filled: Path
) -> None:
    """Its sizes and hash are right, as if another program had written it."""
    entry = next(filled.glob("vae_decoder-*"))
    shutil.rmtree(entry)
    shutil.copytree(next(filled.glob("dit_modulation-*")), entry)
    with logged(api, ort, cache_dir=str(filled).encode()) as (rt, _), pytest.raises(capi.CError) as caught:
        head(api, rt, packs["seeing"][1])
    assert caught.value.name == "TOPOS_E_PACK"  # another graph's inputs: nothing is run with it


def test_a_folder_that_cannot_be_written_costs_only_time(
    api: capi.Api, ort: Path, packs: Any, plain: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    with logged(api, ort, cache_dir=str(file / "cache").encode()) as (rt, lines):
        assert head(api, rt, packs["seeing"][1]) == plain
    assert lines and all("the cache is not used for" in line and "fix: set" in line for line in lines)


def test_nothing_is_kept_of_a_damaged_pack(api: capi.Api, ort: Path, packs: Any, tmp_path: Path) -> None:
    sections = contents(Bundle.open(packs["tiny"][0]), FaceBundle.open())
    data = bytearray(packed(sections))
    at = bytes(data).index(bytes(sections["weights", 0]))  # type: ignore[arg-type]
    data[at + len(sections["weights", 0]) - 1] ^= 1
    pack, folder = tmp_path / "damaged.topos", tmp_path / "cache"
    pack.write_bytes(data)
    refused = pytest.raises(capi.CError, match=r"TOPOS_E_PACK.*SHA-256")
    with logged(api, ort, cache_dir=str(folder).encode()) as (rt, _), refused:
        capi.load(api, rt, pack)
    assert not folder.exists() or not any(folder.iterdir())


def test_requirements_say_what_was_measured(api: capi.Api, ort: Path, packs: Any, tmp_path: Path) -> None:
    """Of mini, which was measured; others are estimated."""
    found = {}
    for name in ("mini", "tiny"):
        for cached in (False, True):
            options = {"cache_dir": str(tmp_path).encode()} if cached else {}
            with capi.runtime(api, ort, **options) as rt:
                out = capi.struct("requirements")
                source = capi.struct("source", path=str(packs[name][1]).encode())
                api.ok("get_requirements", rt, source, None, out)
            found[name, cached] = out
    assert not found["mini", True].estimated and found["tiny", True].estimated
    assert found["mini", True].host_private < 80e6 < found["mini", False].host_private < 200e6
    assert found["tiny", True].host_private == found["tiny", False].host_private
