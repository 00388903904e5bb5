"""The samples are built with the library, and do what they say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.test_glb import parse, read
from topos_rt import HeadPipeline
from topos_rt.formats.glb import write_glb

EXAMPLE = Path(__file__).parents[2] / "examples/hopper.jpg"


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A portrait as a binary PPM, which every build reads."""
    path = tmp_path / "portrait.ppm"
    Image.open(EXAMPLE).convert("RGB").save(path)
    return path


def positions(glb: bytes) -> np.ndarray:
    document, binary = parse(glb)
    return read(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["POSITION"])


def run(built: Path, *words: object) -> subprocess.CompletedProcess[str]:
    program = built / "sdk/samples/portrait_to_glb"
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True)


def test_a_portrait_becomes_a_glb(
    built: Path, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    """It is the head that Python makes of the same picture, and previews are told of on the way."""
    out = tmp_path / "head.glb"
    done = run(built, packs["mini"][1], portrait, out, ort, 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out) and "after step 4: " in done.stdout
    with HeadPipeline.open("mini", "onnxruntime") as pipe:
        head = pipe(np.asarray(Image.open(portrait)), seed=7, texture="none")
    own, theirs = map(positions, (out.read_bytes(), write_glb(head)))
    assert own.shape == theirs.shape and np.abs(own - theirs).max() <= 1e-5
    assert [path.name for path in tmp_path.glob("head*")] == ["head.glb"]


def test_what_it_refuses(
    built: Path, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    pack, out = packs["mini"][1], tmp_path / "head.glb"
    cut = tmp_path / "cut.ppm"
    cut.write_bytes(portrait.read_bytes()[:-1])
    grey = tmp_path / "grey.ppm"
    Image.new("RGB", (64, 64), (90, 90, 90)).save(grey)
    cases = [
        ((), 2, "usage: "),
        ((pack, tmp_path / "none.png", out, ort), 1, "cannot be read"),
        ((pack, cut, out, ort), 1, "damaged PPM"),
        ((portrait, portrait, out, ort), 1, "TOPOS_E_PACK"),
        ((pack, portrait, out, portrait), 1, "TOPOS_E_UNAVAILABLE"),
        ((pack, grey, out, ort), 1, "TOPOS_E_IMAGE"),
        ((pack, portrait, tmp_path / "nowhere/head.glb", ort), 1, "TOPOS_E_IO"),
    ]
    for words, code, message in cases:
        done = run(built, *words)
        assert done.returncode == code and message in done.stderr, done
        assert done.stderr.count("\n") == 1 and not out.exists()
