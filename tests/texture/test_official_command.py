"""`topos-rt texture --official` and `topos-rt generate --texture official` with a tiny texture bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("diffusers")
from tests.export.texture.released import picture
from tests.texture_bundle import texture_bundle
from topos_rt.cli.main import main
from topos_rt.texture.official.opening import PaintEngines, open_painter
from topos_rt.texture.official.settings import PaintOptions

ROOT = Path(__file__).parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"


def command(*words: Any) -> list[str]:
    return ["texture", "--official", str(texture_bundle()), *map(str, words), "--backend", "onnxruntime"]


def test_the_command_paints_a_colour_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "maps" / "map.png"
    assert main(command(ASTRONAUT, "-o", out, "--texture-steps", 3, "--seed", 2, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["texture"]["kind"] == "official" and told["texture"]["evaluations"] == 6
    assert told["texture_requirements"]["evaluations"] == 6
    with (
        Image.open(out) as made_,
        open_painter(texture_bundle(), PaintOptions(3), PaintEngines("onnxruntime")) as opened,
    ):
        assert np.array_equal(np.asarray(made_), opened.paint(picture("astronaut"), 2).albedo)


def test_requirements_are_told_without_painting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(ASTRONAUT, "-o", tmp_path / "a.png", "--requirements")) == 0
    assert "100 evaluations of the transformer" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


BAD = [
    (["--texture-steps", "1"], "steps of the texture: got 1; expected a whole number from 2 to 1000"),
    (["--texture-guidance", "0.5"], "guidance of the texture: got 0.5"),
    (["--texture-solver", "eular"], "unknown solver"),
    (["--texture-guidance-reuse", "0"], "guidance reuse"),
    (["--texture-guidance-interval", "0.9", "0.1"], "guidance interval"),
    (["--texture-precision", "int8"], "precision of the texture: got 'int8'"),
    (["--lora", "x"], "got a texture bundle, which has its LoRA and prompts inside"),
    (["--seed", "-1"], "seed: got -1"),
    (["--face", "9"], "face number 9"),
    (["-o", "map.jpg"], "expected a name that ends in .png"),
    (["--preview", "a.png"], "--preview: got no HEAD"),
    (["a", "b"], "expected HEAD and PHOTO, or PHOTO alone with --official"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_options_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [ASTRONAUT, *words] if "-o" in words else [ASTRONAUT, *words, "-o", "map.png"]
    assert main(command(*given)) == 2
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if "error" in line]
    assert len(lines) == 1 and message in lines[0]
    assert not any(tmp_path.iterdir())


def test_a_portrait_without_a_face_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (200, 200), (120, 110, 100)).save(tmp_path / "grey.png")
    assert main(command(tmp_path / "grey.png", "-o", tmp_path / "map.png")) == 2
    assert "a picture in which no face was found" in capsys.readouterr().err
    assert not (tmp_path / "map.png").exists()


ALONE = [
    (["texture", "a.glb", "b.jpg", "-o", "c.glb", "--lora", "x"], "--lora: got no --official"),
    (["texture", "b.jpg", "-o", "c.glb"], "expected HEAD and PHOTO, or PHOTO alone with --official"),
    (
        ["generate", str(ASTRONAUT), "--texture", "official"],
        "expected --texture official --official DIR together",
    ),
    (["generate", str(ASTRONAUT), "--requirements"], "--requirements: got no --official"),
    (["texture", "--official", "nowhere", "b.jpg"], "official texture nowhere: got no such directory"),
    (["texture", "--official", str(ROOT / "docs"), "b.jpg"], "got a directory of something else"),
    (["texture", "--official", "https://x.y", "b.jpg"], "cannot use https://x.y"),
]


@pytest.mark.parametrize(("words", "message"), ALONE)
def test_options_that_belong_together(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_generate_paints_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiny bundle is of MetaHuman's layout, which `mini` does not have."""
    words = ["generate", str(ASTRONAUT), "-o", str(tmp_path / "a.glb"), "--preset", "fast"]
    paint = ["--texture", "official", "--official", str(texture_bundle()), "--backend", "onnxruntime"]
    assert main([*words, *paint]) == 2
    assert "expected the MetaHuman head of 24,049 and 24,002" in capsys.readouterr().err
