"""The released weights in PyTorch, asked for from a process without it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.module("diffusers")
from tests.export.texture.released import BASE, LORA, SIDE, picture
from tests.texture_bundle import stored_prompts
from topos_rt.cli.main import main
from topos_rt.errors import BackendError, Cancelled, InputError, MissingExtraError, OptionError
from topos_rt.texture.official import opening, outside
from topos_rt.texture.official.opening import PaintEngines, PaintSource, open_painter, requirements
from topos_rt.texture.official.outside import OutsidePainter, Release
from topos_rt.texture.official.settings import PaintOptions

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    prompts = stored_prompts(tmp_path_factory.mktemp("prompts") / "p.safetensors")
    return Release(BASE, LORA, None, prompts, 2, 3.0, SIDE, "cpu", "fp32")


def test_it_paints_reports_and_can_be_cancelled(release: Release, tmp_path: Path) -> None:
    """One process paints portrait after portrait, and a cancelled one is ended."""
    done: list[tuple[str, int, int]] = []
    with OutsidePainter(release) as painter:
        one = painter.paint(picture("astronaut"), 3, lambda *told: done.append(told))
        process = painter._process
        other = painter.paint(picture("hopper"), 4)
        assert painter._process is process

        def stop(stage: str, now: int, count: int) -> None:
            if now == 1:
                raise Cancelled("enough")

        with pytest.raises(Cancelled):
            painter.paint(picture("astronaut"), 3, stop)
        assert process is not None and process.poll() is not None and painter._process is None
    assert [told[1:] for told in done] == [(0, 1), (1, 2), (2, 2)]
    assert one.albedo.shape == (SIDE, SIDE, 3) and not np.array_equal(one.albedo, other.albedo)
    assert one.facts["evaluations"] == 4 and one.facts["seed"] == 3


def test_its_errors_are_those_of_the_other_process(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command, which finds the face first: there is no CUDA here."""
    assert release.embeddings is not None
    words = ["texture", "--official", str(BASE), "--lora", str(LORA), "--embeddings", str(release.embeddings)]
    out = tmp_path / "map.png"
    assert main([*words, str(ASTRONAUT), "-o", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "device cuda: got a PyTorch without CUDA, or no GPU; fix: install PyTorch for CUDA" in error
    assert not out.exists()


def test_a_process_that_dies_is_one_line(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, told in (
        ("raise SystemExit('it broke')", "exit code 1: it broke"),
        ("", "exit code 0: nothing said"),
    ):
        painter = OutsidePainter(release)
        monkeypatch.setattr(painter, "_words", [sys.executable, "-c", code])
        with pytest.raises(BackendError, match=told):
            painter.paint(picture("astronaut"))
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(painter, "_words", [sys.executable, "-c", killed])
    with pytest.raises(BackendError, match="no memory was left for it"):
        painter.paint(picture("astronaut"))


def test_lines_of_others_are_ignored(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'print(\'hello\'); print(\'[1]\'); print(\'{"error": "NoSuch", "what": "it", "got": "this"}\')'
    painter = OutsidePainter(release)
    monkeypatch.setattr(painter, "_words", [sys.executable, "-c", code])
    with pytest.raises(InputError, match="it: got this"):
        painter.paint(picture("astronaut"))


def test_an_installed_package_has_no_exporter(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "_SOURCES", tmp_path)
    with pytest.raises(MissingExtraError, match="got an installed topos_rt, which has no exporter"):
        OutsidePainter(release)


def test_what_only_engines_can_do(release: Release) -> None:
    source = PaintSource(BASE, LORA, None, release.embeddings)
    for options in (PaintOptions(solver="heun"), PaintOptions(reuse=2), PaintOptions(interval=(0.1, 0.9))):
        with pytest.raises(OptionError, match="it is the release's own loop"):
            open_painter(source, options)
    with pytest.raises(OptionError, match="got neither; expected --prompts FILE"):
        open_painter(PaintSource(BASE, LORA))
    with pytest.raises(OptionError, match="steps of the texture: got 1"):
        open_painter(source, PaintOptions(1))
    cost = requirements(source, PaintOptions(10), PaintEngines(device="cpu"))
    assert cost.evaluations == 20 and set(cost.device_bytes) == {"transformer", "vae"}
    prompted = requirements(PaintSource(BASE, LORA, prompts=Path("x")), PaintOptions(guidance=1.0))
    assert prompted.evaluations == 50 and "text encoder" in prompted.device_bytes


def test_the_size_is_the_releases() -> None:
    made: Any = opening._release(PaintSource(BASE), PaintOptions(), PaintEngines())
    assert (made.steps, made.guidance, made.size, made.device, made.dtype) == (50, 1.2, 1024, "cuda", "bf16")
    assert dataclasses.replace(made, embeddings=Path("p")).words()[:2] == ["--official", str(BASE)]


def test_pytorch_stays_in_the_other_process() -> None:
    code = (
        "import sys, topos_rt; from topos_rt.texture.official import opening, painter, outside; "
        "raise SystemExit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
