"""`topos-rt faces`, and the options of `generate` that choose a face."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topos_rt.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
HOPPER = EXAMPLES / "hopper.jpg"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of two people: Grace Hopper is the larger."""
    path = tmp_path_factory.mktemp("pictures") / "pair.png"
    picture = Image.new("RGB", (660, 330), (100, 100, 100))
    with Image.open(HOPPER) as left, Image.open(EXAMPLES / "astronaut.jpg") as right:
        picture.paste(left, (0, 0))
        picture.paste(right, (400, 50))
    picture.save(path)
    return path


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "nobody.png"
    y, x = np.mgrid[0:120, 0:160].astype(np.uint8)
    Image.fromarray(np.stack([x, y, 255 - x], -1)).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_one_line_for_each_face(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "faces", pair)
    assert code == 0 and err == ""
    first, second = out.splitlines()
    assert first.startswith(f"{pair}  face 1: ") and second.startswith(f"{pair}  face 2: ")
    assert "yaw" in first and "mouthSmile" in second


def test_json_has_everything(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "faces", pair, "--json", "--draw", tmp_path / "seen.png")
    report = json.loads(out)
    assert code == 0 and report["command"] == "faces" and report["exit_code"] == 0
    (picture,) = report["pictures"]
    assert (picture["width"], picture["height"]) == (660, 330) and len(picture["faces"]) == 2
    face = picture["faces"][0]
    assert np.shape(face["landmarks"]) == (478, 3) and len(face["expression"]) == 52
    assert face["box"][2] > picture["faces"][1]["box"][2]
    with Image.open(picture["drawing"]) as drawn, Image.open(pair) as plain:
        assert drawn.size == plain.size and drawn.tobytes() != plain.tobytes()


def test_a_picture_without_a_face_does_not_lose_the_others(
    pair: Path, nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "faces", nobody, tmp_path / "missing.png", pair, "--draw", f"{tmp_path}/")
    assert code == 2
    assert len(out.splitlines()) == 4  # two faces, two drawings
    assert [line for line in err.splitlines() if "no face was found" in line]
    assert [line for line in err.splitlines() if "no such file" in line]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nobody.faces.png", "pair.faces.png"]


BAD = {
    "most": (["--most", "0"], "1 to 1,000"),
    "draw": (["--draw", "seen.jpg"], "ends in .png"),
    "backend": (["--backend", "cudnn"], "unknown backend"),
    "threads": (["--threads", "none"], "whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = BAD[case]
    code, out, err = run(capsys, "faces", HOPPER, *words)
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


def generate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict, str]:
    code, out, err = run(capsys, "generate", *words, "--preset", "fast", "--json")
    return code, json.loads(out), err


def test_nobody_is_refused_and_nothing_written(
    nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, err = generate(capsys, nobody, "-o", tmp_path / "head.glb")
    assert code == 2 and report["heads"] == [] and not list(tmp_path.iterdir())
    assert report["errors"][0]["type"] == "FaceError"
    assert "no face was found" in err and "--no-face-check" in err


def test_nobody_is_taken_without_the_check(
    nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, err = generate(capsys, nobody, "-o", tmp_path / "head.glb", "--no-face-check")
    assert code == 0 and (tmp_path / "head.glb").exists()
    assert "warning: no face was found" in err
    assert report["heads"][0]["metadata"]["warnings"] == ["no face was found; the whole picture was taken"]


def test_the_largest_is_taken_with_a_warning(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, err = generate(
        capsys, pair, "-o", tmp_path / "head.glb", "--preview", tmp_path / "head.png"
    )
    (head,) = report["heads"]
    assert code == 0 and "warning: 2 faces were found, and the largest was taken" in err
    found = head["metadata"]["face"]
    assert found["box"][0] < 200 and found["size_px"] > 150 and "expression" not in found
    assert head["metadata"]["crop"]["side"] > found["size_px"]
    assert "face" in head["timings_s"]
    with Image.open(tmp_path / "head.png") as preview:
        assert preview.size == (640 + 1536, 640)  # the portrait, then three views


def test_another_face_by_its_number(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, err = generate(capsys, pair, "-o", tmp_path / "head.glb", "--face", "2")
    assert code == 0 and "warning" not in err
    assert report["heads"][0]["metadata"]["face"]["box"][0] > 400


def test_all_faces_get_a_head_each(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = generate(capsys, pair, HOPPER, "-o", f"{tmp_path}/", "--face", "all", "--seeds", "1,2")
    names = [f"pair_face{face}_seed{seed}.glb" for face in (1, 2) for seed in (1, 2)]
    names += [f"hopper_face1_seed{seed}.glb" for seed in (1, 2)]
    assert code == 0 and [Path(head["output"]).name for head in report["heads"]] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert [head["face"] for head in report["heads"]] == [1, 1, 2, 2, 1, 1]


def test_all_faces_of_nobody(nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, err = generate(capsys, nobody, HOPPER, "-o", f"{tmp_path}/", "--face", "all")
    assert code == 2 and "no face can be used" in err and len(report["heads"]) == 1


REFUSED = {
    "number 7 of 2": (["--face", "7"], "expected 1 to 2"),
    "a word": (["--face", "left"], "expected largest, all, or the number of a face"),
    "zero": (["--face", "0"], "expected largest, all, or the number of a face"),
    "beyond": (["--crop", "600,0,100,100"], "inside the upright picture of 660 x 330"),
    "negative": (["--crop=-1,0,100,100"], "four whole numbers"),
    "thin": (["--crop", "0,0,4,100"], "width, height >= 16"),
    "a box without a face": (["--crop", "0,0,40,40"], "no face was found"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = REFUSED[case]
    code, _, err = generate(capsys, pair, "-o", tmp_path / "head.glb", *words)
    assert code == 2 and message in err and not list(tmp_path.iterdir())
    assert len([line for line in err.splitlines() if line.startswith("topos-rt: error")]) == 1


def test_crops(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crops = {}
    for crop in ("auto", "none", "400,50,224,224"):
        code, report, _ = generate(capsys, pair, "-o", tmp_path / "head.glb", "--crop", crop)
        assert code == 0
        crops[crop] = report["heads"][0]["metadata"]
    assert crops["none"]["crop"] == {"centre": [330.0, 165.0], "side": 330.0, "angle_degrees": 0.0}
    assert crops["auto"]["crop"]["angle_degrees"] != 0
    assert crops["400,50,224,224"]["crop"]["centre"] == [512.0, 162.0]
    assert crops["400,50,224,224"]["face"]["box"][0] > 400  # in the whole picture's pixels
