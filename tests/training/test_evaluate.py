"""The commands that measure a bundle, on a few pictures."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("numba")
from tests.training.shard_files import write_shards
from topos_rt import HeadPipeline
from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle
from topos_rt.scan.fit import mean_head
from training import evaluate, photographs, spread
from training.sitters import sit

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def pipe() -> Iterator[HeadPipeline]:
    with HeadPipeline.open("mini", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def heads(pipe: HeadPipeline) -> np.ndarray:
    mean = mean_head(pipe.bundle).points * pipe.bundle.manifest.frame.radius_m
    waves = np.random.default_rng(0).normal(0, 20, (4, 3, 3))
    return mean + 0.004 * np.sin(mean @ waves) + [0, 0.5, 0]


@pytest.fixture(scope="module")
def folder(heads: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("held_out")
    picture = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((384, 384)))
    write_shards(directory, heads, picture, [0, 20, -40, 5])
    return directory


def test_sitters_are_people_once_each(pipe: HeadPipeline, folder: Path, heads: np.ndarray) -> None:
    found = sit(pipe, folder, 3)
    assert (found.pictures, found.without_face, found.turned_away) == (3, 0, 0)
    assert [round(person.yaw) for person in found.found] == [0, 20, -40]
    middle = (heads[2].min(0) + heads[2].max(0)) / 2
    assert found.found[2].truth == pytest.approx(heads[2] - middle, abs=2e-5)
    assert not found.found[0].seen[::3].any() and found.found[0].seen[1::3].all()


def test_pictures_without_a_face_are_counted(pipe: HeadPipeline, heads: np.ndarray, tmp_path: Path) -> None:
    write_shards(tmp_path, heads, np.full((64, 64, 3), 127, np.uint8), [0] * 4)
    with pytest.raises(InputError, match=r"--held-out .*: got 0 people whose face is found; expected 2; fix"):
        sit(pipe, tmp_path, 2)


def test_heads_of_another_topology_are_refused(pipe: HeadPipeline, tmp_path: Path) -> None:
    write_shards(tmp_path, np.random.default_rng(0).random((1, 9, 3)), np.zeros((8, 8, 3), np.uint8), [0])
    with pytest.raises(InputError, match=r"got heads of 9 vertices; expected 4538"):
        sit(pipe, tmp_path, 1)


def test_a_folder_without_shards(pipe: HeadPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        sit(pipe, tmp_path, 1)


def test_the_parts_of_heads_that_pictures_leave_open(pipe: HeadPipeline) -> None:
    groups = spread.Groups.of(pipe.bundle)
    assert 300 < groups.open["ears"].sum() < 900 and 100 < groups.open["back"].sum() < 900
    assert not (groups.face & (groups.open["ears"] | groups.open["back"])).any()
    assert not (groups.open["ears"] & groups.open["back"]).any()


def test_the_picture_has_rows_of_portrait_head_and_truth(
    pipe: HeadPipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_VIEW", 40)
    people = sit(pipe, folder, 3).found
    png = evaluate.drawn(pipe.bundle, people, np.stack([person.truth for person in people]))
    assert png[:4] == b"\x89PNG"
    assert Image.open(io.BytesIO(png)).size == (2 * 5 * 40, 2 * 40)


BAD_OPTIONS = [("--people 1", "--people: got 1; expected 2 or more"),
               ("--seeds 1", "--seeds: got 1; expected 2 or more"),
               ("--seed-people 0", "--seed-people: got 0; expected 1 or more"),
               ("--json nowhere/x/y.json", "nowhere")]  # fmt: skip


@pytest.mark.parametrize("words, message", BAD_OPTIONS)
def test_bad_options(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["evaluate", "--bundle", "mini", "--held-out", "x", "--json", "out.json"]
    monkeypatch.setattr(sys, "argv", [*base, *words.split()])
    with pytest.raises(InputError, match=message):
        evaluate.main()
    assert not list(tmp_path.iterdir())


def test_photographs_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    portrait, other = (Image.open(ROOT / "examples" / f"{n}.jpg") for n in ("astronaut", "hopper"))
    portrait.save(photos / "one-1.jpg")
    portrait.resize((400, 400)).save(photos / "one-2.png")
    other.save(photos / "two.jpg")
    portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "three.jpg")
    Image.new("RGB", (90, 90)).save(photos / "black.png")
    (photos / "notes.txt").write_text("not a photograph")
    monkeypatch.setattr(photographs, "STABLE", 1)
    monkeypatch.setattr(photographs, "CHANGES", {"same": lambda p: p, "gone": lambda p: p.resize((16, 16))})
    out = tmp_path / "out.json"
    words = ["--bundle", str(Bundle.open("mini").path), "--photos", str(photos), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["photographs", *words])
    photographs.main()
    found = json.loads(out.read_text())
    assert found["faces"] == 4 and found["people"] == 3 and found["files_without_face"] == ["black.png"]
    assert set(found["now"]["by_photograph"]) == {"one-1.jpg", "one-2.png", "two.jpg 1", "three.jpg 1"}
    same = found["now"]["same_person"]
    assert same["people"] == 1 and same["photographs"] == 2 and same["nearest_is_the_same"] == 1
    assert (
        same["ratio"] == pytest.approx(same["within_mm"] / same["between_mm"], abs=1e-3)
        and same["ratio"] < 0.6
    )
    assert found["now"]["stability_mm"] == {
        "same": {"mean": pytest.approx(0, abs=0.01), "without_face": 0},
        "gone": {"mean": None, "without_face": 1},
    }  # fmt: skip
    for name in ("mean_head", "now"):
        assert 1 < found[name]["reprojection_percent"]["mean"] < 6


def test_a_folder_of_too_few_people(pipe: HeadPipeline, tmp_path: Path) -> None:
    Image.open(PORTRAIT).save(tmp_path / "one-1.jpg")
    with pytest.raises(InputError, match=r"got 1 people in 1 photographs; expected 3 or more, in files that"):
        photographs.photographs(pipe, tmp_path)
    with pytest.raises(InputError, match=r"--photos .*nowhere: got No such file"):
        photographs.photographs(pipe, tmp_path / "nowhere")


def test_the_same_person_is_measured_by_pairs() -> None:
    table = np.array([[0, 1, 5, 6], [1, 0, 7, 8], [5, 7, 0, 0.5], [6, 8, 0.5, 0]])
    found = photographs.same_person(table, ["a", "a", "b", "c"])
    assert found is not None and found["nearest_is_the_same"] == 1 and found["within_mm"] == 1
    assert found["between_mm"] == pytest.approx((5 + 6 + 7 + 8 + 0.5) / 5)
    twice = photographs.same_person(table, ["a", "a", "b", "b"])
    assert twice is not None and twice["within_mm_by_person"] == {"a": 1, "b": 0.5}
    assert twice["within_mm"] == 0.75 and twice["ratio"] == pytest.approx(0.75 / 6.5, abs=1e-4)
    wrong = photographs.same_person(table, ["a", "b", "a", "a"])
    assert wrong is not None and wrong["nearest_is_the_same"] == pytest.approx(2 / 3, abs=1e-4)
    assert photographs.same_person(table, ["a", "b", "c", "d"]) is None


def test_landmarks_that_no_pose_explains_are_counted_apart(pipe: HeadPipeline) -> None:
    picture = Image.open(PORTRAIT).convert("RGB")
    face = pipe.find_faces(picture)[0]
    scattered = SimpleNamespace(landmarks=np.random.default_rng(0).random((478, 3)) * 500, expression={})
    head = mean_head(pipe.bundle).points * pipe.bundle.manifest.frame.radius_m
    photo = photographs.Photograph("a", "a", picture, scattered, True)  # type: ignore[arg-type]
    assert photographs.reprojection(pipe.bundle, head, photo) is None
    photo = photographs.Photograph("a", "a", picture, face, True)
    assert 1 < (photographs.reprojection(pipe.bundle, head, photo) or 0) < 6
