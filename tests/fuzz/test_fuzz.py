"""Every reader with sound, once harmful and mutated files: it succeeds or raises one typed line.

`make fuzz` runs more of the same; see tests/fuzz/run.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests import needs
from tests.fuzz.guided import ours
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import CORPUS, TARGETS, corpus, feed

INPUTS = 150  # of each target
NEEDS = {
    "torch": ("checkpoint", "instructions", "stored_prompts"),
    "yaml": ("config",),
    "scipy": ("glb", "gltf", "obj", "ply", "stl", "off", "cloud", "character"),
    "models": ("character",),
    "pyarrow": ("batch_journal", "table"),
}
# Targets whose seeds are not all sound files: two of the configurations are not.
PARTLY = ("config",)


def ready(name: str) -> None:
    for module, names in NEEDS.items():
        if name in names:
            needs.module(module)


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_accepted(name: str, tmp_path: Path) -> None:
    ready(name)
    accepted = [feed(name, data, tmp_path) for data in TARGETS[name].seeds()]
    assert all(accepted) or (name in PARTLY and any(accepted))


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_accepted_or_refused_with_one_line(name: str, tmp_path: Path) -> None:
    ready(name)
    kept = corpus(name)
    for data in kept:
        feed(name, data, tmp_path)
    outcomes = {
        feed(name, mutated(kept, number, zlib.crc32(name.encode())), tmp_path) for number in range(INPUTS)
    }
    assert False in outcomes or name in ("locations", "arrays", "sidecar")  # those suppress their refusals


@pytest.mark.parametrize("name", ["png", "tiff", "webp", "gltf", "ply", "arrays"])
def test_mutated_files_within_the_limits_of_memory_and_time(name: str) -> None:
    """A process of its own has them: sizes that a file only declares are refused, or never asked for."""
    ready(name)
    words = [sys.executable, "-m", "tests.fuzz.run", "--batch", name, "0", "300"]
    done = subprocess.run(words, cwd=CORPUS.parents[2], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["inputs"] == 300 and not found["findings"]


def test_the_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1 << 20
    assert {path.parent.name for path in files} <= set(TARGETS)


def test_mutations_are_numbered() -> None:
    seeds = [b"abc" * 50, b"123" * 50]
    assert mutated(seeds, 7, 1) == mutated(seeds, 7, 1)
    assert len({mutated(seeds, number, 1) for number in range(100)}) > 80


def test_coverage_is_taken_of_the_readers(tmp_path: Path) -> None:
    """Coverage that sees nothing guides nothing, and no run would tell."""
    ready("glb")
    feed("glb", corpus("glb")[0], tmp_path)
    names = {f"{function.__module__}.{function.__qualname__}" for function in ours()}
    assert "topos_rt.formats.gltf_file.GltfFile._slice" in names  # a method
    assert "topos_rt.formats.gltf_scene.placed" in names  # a function
    assert "topos_rt.model.bundle.Bundle.open" in names  # a class method
    assert not any(name.startswith(("numpy.", "tests.")) for name in names)
