"""`topos-rt metrics`: pairs and sets of pictures, masks, faces, and what is refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("torch")

import torch

from tests.metrics.networks import CHANNELS, Random, pictures, tensor, write
from topos_rt.cli.main import main
from topos_rt.metrics import csim, fid, kid, lpips, psnr, ssim
from topos_rt.support.tensorfile import write_tensors

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
HOPPER = ASTRONAUT.with_name("hopper.jpg")
COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pictures, made and real, with masks, a network and weights."""
    root = tmp_path_factory.mktemp("metrics")
    for name, seed in (("made", 1), ("real", 2)):
        (root / name).mkdir()
        for number, image in enumerate(pictures(COUNT, 32, seed)):
            Image.fromarray(image).save(root / name / f"{number}.{'png' if seed == 1 else 'bmp'}")
    mask = np.zeros((32, 32), np.uint8)
    mask[6:20, 8:24] = 255
    Image.fromarray(mask).save(root / "mask.png")
    for name in ("empty", "twice", "dark"):
        (root / name).mkdir()
    for name in (
        "twice/a.jpg",
        "twice/a.png",
        "large.png",
        *(f"dark/{number}.png" for number in range(COUNT)),
    ):
        side = 32 if name.startswith("dark") else 40
        Image.new("RGB", (side, side)).save(root / name)
    (root / "text.png").write_text("no picture")
    write(root / "random.onnx")
    write_tensors(
        root / "lin.safetensors", {"one": np.full(CHANNELS[0], 0.5), "two": np.full(CHANNELS[1], 2.0)}, {}
    )
    return root


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["metrics", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def both(folder: Path) -> list[str]:
    return [str(folder / "made"), str(folder / "real")]


def test_pairs_of_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told([*both(folder), "--mask", str(folder / "mask.png")], capsys)
    made, real = pictures(COUNT, 32, 1), pictures(COUNT, 32, 2)
    mask = np.zeros((32, 32), bool)
    mask[6:20, 8:24] = True
    assert [row["name"] for row in found["pairs"]] == [str(number) for number in range(COUNT)]
    for number, row in enumerate(found["pairs"]):
        assert row["psnr"] == pytest.approx(psnr(made[number], real[number], mask))
        assert row["ssim"] == pytest.approx(ssim(made[number], real[number], mask))
    assert found["psnr"] == pytest.approx(np.mean([row["psnr"] for row in found["pairs"]]))


def test_equal_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = str(folder / "made" / "0.png")
    found = told([one, one], capsys)
    assert found["psnr"] is None and found["ssim"] == pytest.approx(1)
    assert main(["metrics", one, one]) == 0
    assert "psnr    infinite: the pictures are equal" in capsys.readouterr().out


def test_measures_with_a_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--network", str(folder / "random.onnx")]
    with torch.no_grad():
        maps = [[values.numpy() for values in Random().maps(tensor(pictures(COUNT, 32, s)))] for s in (1, 2)]
    rows = [values[1].mean((2, 3)) for values in maps]
    words = ["--measures", "csim,fid,kid", "--outputs", "features", "--subset-size", "4", "--seed", "2"]
    found = told([*both(folder), *words, *network], capsys)
    assert found["csim"] == pytest.approx(csim(*rows).mean, abs=1e-5)
    assert found["csim_mismatched"] == pytest.approx(csim(*rows).mismatched, abs=1e-5)
    assert found["fid"] == pytest.approx(fid(*rows), rel=1e-3)
    assert found["kid"] == pytest.approx(kid(*rows, subset_size=4, seed=2).mean, rel=1e-3)
    weighted = ["--measures", "lpips", "--outputs", "one,two", "--weights", str(folder / "lin.safetensors")]
    found = told([*both(folder), *weighted, *network], capsys)
    weights = [np.full(CHANNELS[0], 0.5), np.full(CHANNELS[1], 2.0)]
    expected = [
        lpips([values[n] for values in maps[0]], [values[n] for values in maps[1]], weights)
        for n in range(COUNT)
    ]
    assert found["lpips"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_faces_are_cut_out(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--measures", "csim", "--network", str(folder / "random.onnx"), "--outputs", "features"]
    with Image.open(ASTRONAUT) as opened:
        wide = Image.new("RGB", (opened.width + 200, opened.height + 60), (20, 120, 40))
        wide.paste(opened, (150, 40))
    wide.save(tmp_path / "moved.png")
    same = told([str(ASTRONAUT), str(tmp_path / "moved.png"), *words, "--faces"], capsys)["csim"]
    whole = told([str(ASTRONAUT), str(tmp_path / "moved.png"), *words], capsys)["csim"]
    other = told([str(ASTRONAUT), str(HOPPER), *words, "--faces"], capsys)["csim"]
    assert same > 0.9999 > whole and same > other


REFUSED: list[tuple[list[str], str]] = [
    (["made", "real", "--measures", "fid"], "measure 'fid': got no network"),
    (["made", "real", "--measures", "fad", "--network", "random.onnx"], "unknown measure: got 'fad'"),
    (["made", "real", "--faces"], "got no --network"),
    (["made", "real/0.bmp"], "pairs of pictures: got 5 without a partner, such as '1'"),
    (["made", "empty"], "the folder .*empty: got 0 pictures; expected 1 to 200,000 files"),
    (["made", "twice"], r"got a.jpg and a.png; expected one picture of each name"),
    (["made/0.png", "none.png"], "no such file"),
    (["made/0.png", "text.png"], "cannot use the image .*text.png"),
    (["made/0.png", "https://example.org/a.png"], "got a URL; expected a file on this machine"),
    (["made/0.png", "large.png"], "got sizes 32 x 32 and 40 x 40; expected one size"),
    (["made/0.png", "real/0.bmp", "--mask", "large.png"], r"the mask: got bool \[40, 40\]"),
    (["made", "real", "--mask", "dark"], r"the mask: got bool \[32, 32\], 0 pixels"),
    (["made", "real", "--mask", "twice"], "got a.jpg and a.png"),
    (["made", "real", "--measures", "csim", "--network", "random.onnx"], "got 3 outputs: one, two, features"),
    (["made/0.png", "large.png", "--measures", "lpips", "--network", "random.onnx"], "LPIPS of .*got sizes"),
    (["made", "real", "--measures", "kid", "--network", "random.onnx", "--outputs", "features"],
     "KID: got 6 pictures in a set; expected 1000 or more"),
    (["made/0.png", "real/0.bmp", "--measures", "fid", "--network", "random.onnx", "--outputs", "features"],
     "features: got 1 pictures; expected 2 or more"),
    (["made", "real", "--measures", "lpips", "--network", "random.onnx", "--weights", "lin.safetensors"],
     "weights of LPIPS: got none for the output 'features'"),
    (["made", "real", "--measures", "csim", "--network", "text.png"], "network text.png: got"),
    (["made/0.png", "real/0.bmp", "--measures", "csim", "--network", "random.onnx", "--faces"],
     "cannot use the image .*0.png: got no face that looks to the camera"),
    (["made", "real", "--measures", "csim", "--network", "random.onnx", "--size", "5"],
     "size of pictures: got 5"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_refusals_are_one_line(
    words: list[str],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["metrics", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line) and line.startswith("topos-rt: error: ")
