"""Heads of `mini` with landmarks in the loop, and calls in which they cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import fake_pipeline, same
from tests.landmark_worlds import responding_mini
from topos_rt import HeadPipeline
from topos_rt.cli.main import main
from topos_rt.errors import FaceError, OptionError
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.model.networks import Networks

HOPPER = str(Path(__file__).parents[1] / "examples" / "hopper.jpg")
GREY = np.full((64, 64, 3), 128, np.uint8)
SAMPLING: dict[str, Any] = {"steps": 4, "texture": "none"}


@pytest.fixture(scope="module")
def responding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadPipeline]:
    """`mini` with a response along a few directions of its own heads."""
    path = responding_mini(tmp_path_factory.mktemp("responding"))
    with HeadPipeline.open(path, "onnxruntime", threads=1) as pipe:
        yield pipe


def test_off_is_what_it_was_before_there_was_such_a_thing(responding: HeadPipeline) -> None:
    with HeadPipeline.open("mini", "onnxruntime", threads=1) as plain:
        heads = [plain(HOPPER, seed=3, **SAMPLING), plain(HOPPER, seed=3, landmark_pull=0, **SAMPLING)]
    heads += [responding(HOPPER, seed=3, landmark_pull=w, **SAMPLING) for w in (None, 0.0)]
    files = [EXPORTERS["glb"](head, ExportOptions()) for head in heads]
    assert all(same(heads[0], head) for head in heads) and len(set(files)) == 1
    assert "landmark_pull" not in heads[0].metadata


def test_the_more_they_count_the_nearer_the_landmarks_are(responding: HeadPipeline) -> None:
    heads = [responding(HOPPER, landmark_pull=w, **SAMPLING) for w in (0, 20, 60)]
    residuals = [head.metadata["pose"]["residual_percent"] for head in heads]
    # `mini` knows the landmarks already: counted once more as they deserve, they may move it either way.
    assert residuals[0] > residuals[1] > residuals[2], residuals
    assert heads[1].metadata["landmark_pull"] == 20.0 and type(heads[1].metadata["landmark_pull"]) is float
    assert not heads[1].metadata["warnings"]
    assert same(heads[1], responding(HOPPER, landmark_pull=20.0, **SAMPLING))


def test_streams_seeds_and_batches_give_the_heads_of_calls(responding: HeadPipeline) -> None:
    alone = [responding(HOPPER, seed=seed, landmark_pull=2, **SAMPLING) for seed in (0, 1)]
    both = responding(HOPPER, seed=[0, 1], landmark_pull=2, **SAMPLING)
    assert all(map(same, alone, both))
    assert not np.array_equal(alone[0].positions, alone[1].positions)
    *previews, last = responding.stream(HOPPER, seed=1, landmark_pull=2, **SAMPLING)
    assert same(last, alone[1])
    assert [head.metadata["preview_step"] for head in previews] == [1, 2, 3]
    *plain, _ = responding.stream(HOPPER, seed=1, **SAMPLING)
    assert not np.array_equal(plain[0].positions, previews[0].positions)


BAD = {
    "negative": -0.1,
    "too much": 100.5,
    "not a number": np.nan,
    "endless": np.inf,
    "a word": "strong",
    "a truth": True,
    "a list": [1.0],
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_one_line(case: str, responding: HeadPipeline) -> None:
    with pytest.raises(OptionError) as caught:
        responding(HOPPER, landmark_pull=BAD[case], **SAMPLING)
    assert str(caught.value).startswith("landmark pull: got ")
    assert str(caught.value).endswith("expected a number from 0 to 100") and "\n" not in str(caught.value)


def test_a_picture_without_a_face_is_refused(responding: HeadPipeline) -> None:
    with pytest.raises(FaceError, match="landmark pull: got no face was found; expected a picture of a face"):
        responding(GREY, face_check=False, landmark_pull=1, **SAMPLING)
    assert responding(GREY, face_check=False, **SAMPLING).metadata["face"] is None
    (face,) = responding.find_faces(HOPPER)
    turned = dataclasses.replace(face, landmarks=np.zeros((0, 3), np.float32))
    with pytest.raises(FaceError, match="got a face that looks too far sideways"):
        responding(HOPPER, face=turned, face_check=False, landmark_pull=1, **SAMPLING)


def test_a_model_without_a_response_is_refused_at_once(tiny_bundle: Path) -> None:
    pipe = fake_pipeline(tiny_bundle)
    message = "landmark pull: got the model tiny, which has no landmark response; expected 0, or"
    for call in (pipe, pipe.each, pipe.stream):
        with pytest.raises(OptionError, match=message):
            call(GREY, landmark_pull=0.5)  # type: ignore[operator]


def test_one_cuda_graph_is_refused(responding: HeadPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Networks, "records", property(lambda self: True))
    with pytest.raises(OptionError, match=r"landmark pull: got a CUDA graph of all steps; .* stepwise=True"):
        responding(HOPPER, landmark_pull=1, **SAMPLING)
    head = responding(HOPPER, landmark_pull=1, stepwise=True, **SAMPLING)
    assert head.metadata["landmark_pull"] == 1


def test_the_command_line(
    tiny_bundle: Path, responding: HeadPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failed(*words: str) -> str:
        assert main(["generate", HOPPER, "-o", str(tmp_path / "no.glb"), *words]) == 2
        assert not (tmp_path / "no.glb").exists()
        return capsys.readouterr().err

    assert "landmark pull: got -1.0; expected a number from 0 to 100" in failed("--landmark-pull=-1")
    assert "no landmark response" in failed("--landmark-pull", "1", "--model", str(tiny_bundle))
    model = ["--model", str(responding.bundle.path), "--backend", "onnxruntime", "--texture", "none"]
    out = tmp_path / "head.head"
    assert main(["generate", HOPPER, "-o", str(out), *model, "--steps", "4", "--landmark-pull", "1"]) == 0
    assert out.exists()
    capsys.readouterr()
    assert main(["info", str(responding.bundle.path)]) == 0
    assert "landmark pull  in 4 directions of the latent" in capsys.readouterr().out
