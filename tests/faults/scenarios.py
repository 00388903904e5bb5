"""Processes that write, to be killed at any moment, and what must hold afterwards.

`python -m tests.faults.scenarios NAME DIRECTORY` writes again and again until it is killed. It prints a line
once it has begun.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SIZE = 300_000
KEYS = 3


@dataclass(frozen=True)
class Scenario:
    """How to write for ever in a directory, and a check after a kill, which raises AssertionError."""

    prepare: Callable[[Path], object]
    write: Callable[[Path], object]
    check: Callable[[Path], object]


def _block(number: int) -> bytes:
    """Return bytes that say of themselves whether they are whole."""
    body = number.to_bytes(8, "little") * (SIZE // 8)
    return hashlib.sha256(body).digest() + body


def _whole(data: bytes) -> None:
    assert hashlib.sha256(data[32:]).digest() == data[:32], f"half a file of {len(data)} bytes"


def _write_files(directory: Path) -> None:
    from topos_rt.support.files import write_atomic

    for number in itertools.count():
        write_atomic(directory / "a" / str(number % 3), _block(number), parents=True)


def _check_files(directory: Path) -> None:
    for path in (directory / "a").glob("[0-9]"):
        _whole(path.read_bytes())


def _replace_directory(directory: Path) -> None:
    from topos_rt.support.directories import replacing

    for number in itertools.count():
        with replacing(directory / "b", keep=number % 3 == 2) as new:
            for name in "xyz":
                (new / name).unlink(missing_ok=True)
                (new / name).write_bytes(_block(number))


def _check_directory(directory: Path) -> None:
    from topos_rt.support.directories import recover

    recover(directory / "b")
    names = sorted(path.name for path in (directory / "b").iterdir())
    assert names == ["x", "y", "z"], f"half a directory: {names}"
    contents = {(directory / "b" / name).read_bytes() for name in names}
    assert len(contents) == 1, "files of two versions"
    _whole(contents.pop())


def _prepare_directory(directory: Path) -> None:
    (directory / "b").mkdir()
    for name in "xyz":
        (directory / "b" / name).write_bytes(_block(0))


def _keys() -> list[object]:
    from topos_rt.engines.cache import EngineKey

    return [EngineKey(f"g{i}.onnx", f"{i}" * 64, {}, "b", "1", "8.9", "fp16", 1) for i in range(KEYS)]


def _store_engines(directory: Path) -> None:
    from topos_rt.engines.cache import BuildReport, EngineCache
    from topos_rt.engines.trust import write_signed

    cache = EngineCache(directory / "cache", limit_bytes=2 * SIZE)
    for number in itertools.count():
        key = _keys()[number % KEYS]
        with cache.lock(key):  # type: ignore[arg-type]
            cache.store(key, _block(number), BuildReport(1.0, {}, {}, {}))  # type: ignore[arg-type]
        write_signed(cache.runtime_cache(key, "sm89"), _block(number))  # type: ignore[arg-type]


def _check_engines(directory: Path) -> None:
    from topos_rt.engines.cache import EngineCache, Found
    from topos_rt.engines.trust import read_signed

    cache = EngineCache(directory / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plan whose sidecar was not written yet is told of, and not used
        for key in _keys():
            found = cache.find(key)  # type: ignore[arg-type]
            if isinstance(found, Found):
                _whole(found.plan)
            path = cache.runtime_cache(key, "sm89")  # type: ignore[arg-type]
            if path.exists():
                _whole(read_signed(path))
            with cache.lock(key):  # type: ignore[arg-type]
                pass


def _prepare_bundle(directory: Path) -> None:
    from tests.tiny_bundle import write_tiny_bundle

    (directory / "bundle").mkdir()
    write_tiny_bundle(directory / "bundle")


def _change_bundle(directory: Path) -> None:
    from topos_rt.head.rig import Rig
    from topos_rt.model.bundle import Bundle, write_manifest
    from topos_rt.support.directories import replacing

    while True:
        bundle = Bundle.open(directory / "bundle")
        assert bundle.rig is not None
        with replacing(bundle.path, keep=True) as new:
            bundle.rig.save(new / "rig.safetensors")
            write_manifest(new, bundle.manifest)
        Rig.load(directory / "bundle" / "rig.safetensors")


def _check_bundle(directory: Path) -> None:
    from topos_rt.model.bundle import Bundle

    Bundle.open(directory / "bundle")


def _prepare_heads(directory: Path) -> None:
    from tests.sample_pictures import RGB, encode

    _prepare_bundle(directory)
    (directory / "a.png").write_bytes(encode(RGB, "PNG"))


def _make_heads(directory: Path) -> None:
    from topos_rt.cli.main import main

    os.chdir(directory)
    words = [
        "generate",
        "a.png",
        "--no-face-check",
        "--model",
        "bundle",
        "--preview",
        "out/{seed}.png",
        "--steps",
        "1",
        "--threads",
        "1",
    ]
    for number in itertools.count():
        assert main([*words, "-o", "out/{seed}.glb", "--seed", str(number % 5)]) == 0


def _check_heads(directory: Path) -> None:
    from PIL import Image

    for path in (directory / "out").glob("*"):
        if path.suffix == ".glb":
            data = path.read_bytes()
            assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data), "half a GLB"
            size = int.from_bytes(data[12:16], "little")
            json.loads(data[20 : 20 + size])
        elif path.suffix == ".png":
            Image.open(path).load()
        else:
            assert path.name.startswith(".topos-rt-"), path


SCENARIOS = {
    "files": Scenario(lambda directory: None, _write_files, _check_files),
    "directory": Scenario(_prepare_directory, _replace_directory, _check_directory),
    "engine cache": Scenario(lambda directory: None, _store_engines, _check_engines),
    "bundle": Scenario(_prepare_bundle, _change_bundle, _check_bundle),
    "heads": Scenario(_prepare_heads, _make_heads, _check_heads),
}


def main() -> None:
    """Write until killed."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    print("begun", flush=True)
    SCENARIOS[name].write(directory)


if __name__ == "__main__":
    main()
