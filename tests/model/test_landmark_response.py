"""The file of a landmark response, and what is refused as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_bundle as tiny
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.landmark_errors import LandmarkErrors
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.support.tensorfile import read_tensors, write_tensors

SIZE = tiny.N * tiny.D


def response() -> LandmarkResponse:
    draw = np.random.default_rng(3)
    errors = LandmarkErrors(
        np.float32([20, 90]),
        draw.normal(0, 0.01, (2, 4, 468, 2)).astype(np.float32),
        draw.uniform(0.01, 0.02, (2, 468, 2)).astype(np.float32),
    )
    rows = np.linalg.qr(draw.normal(size=(SIZE, 3)))[0].T
    return LandmarkResponse(rows, np.float32([3, 2, 1]), draw.normal(0, 1e-3, (3, 468, 3)), errors)


def test_it_goes_to_a_file_and_back(tmp_path: Path) -> None:
    made = response()
    made.save(tmp_path / "r")
    read = LandmarkResponse.load(tmp_path / "r", SIZE)
    for name in ("directions", "spreads", "moves"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
        assert not getattr(read, name).flags.writeable
    for name in ("yaws", "modes", "noise"):
        assert np.array_equal(getattr(read.errors, name), getattr(made.errors, name))


def put(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = np.array(change(np.array(tensors[name])))

    return spoil


def at(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[1] = value
        return array

    return change


BAD: dict[str, tuple[Callable[[dict[str, np.ndarray]], None], str]] = {
    "a tensor too few": (
        lambda t: t.pop("modes") is None,
        "expected the arrays directions, spreads, moves, yaws",
    ),
    "a tensor too many": (lambda t: t.update(more=np.zeros(1)), "got directions, modes, more, moves"),
    "no directions": (put("directions", lambda a: a[:0]), "response directions: got"),
    "flat directions": (put("directions", lambda a: a[0]), "response directions: got"),
    "directions that are no numbers": (put("directions", at(np.nan)), "response directions"),
    "too few spreads": (put("spreads", lambda a: a[1:]), "response spreads: got"),
    "a spread of zero": (put("spreads", at(0)), "response spreads: got"),
    "moves of other landmarks": (put("moves", lambda a: a[:, 1:]), "response moves: got"),
    "endless moves": (put("moves", at(np.inf)), "response moves"),
    "yaws that fall": (put("yaws", lambda a: a[::-1]), "yaws of landmark errors: got"),
    "no yaws": (put("yaws", lambda a: a[:0]), "yaws of landmark errors: got"),
    "modes of one yaw": (put("modes", lambda a: a[:1]), "modes of landmark errors: got"),
    "modes without landmarks": (put("modes", lambda a: a[..., 0]), "modes of landmark errors: got"),
    "no noise": (put("noise", at(0)), "noise of landmark errors: got"),
    "noise that is no number": (put("noise", at(np.nan)), "noise of landmark errors: got"),
    "words": (put("moves", lambda a: a.astype("u1").astype(bool)), "response moves: got dtype bool"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_one_line(case: str, tmp_path: Path) -> None:
    spoil, message = BAD[case]
    response().save(tmp_path / "r")
    tensors = {name: np.array(tensor) for name, tensor in read_tensors(tmp_path / "r")[0].items()}
    spoil(tensors)
    write_tensors(tmp_path / "r", tensors, {})
    with pytest.raises(BundleError) as caught:
        LandmarkResponse.load(tmp_path / "r", SIZE)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_bundle_reads_its_own(tmp_path: Path) -> None:
    tiny.write_tiny_bundle(tmp_path)
    assert Bundle.open(tmp_path).landmark_response is None
    response().save(tmp_path / "r.safetensors")
    write_manifest(tmp_path, dataclasses.replace(tiny.manifest(), landmark_response="r.safetensors"))
    found = Bundle.open(tmp_path).landmark_response
    assert found is not None and np.array_equal(found.moves, response().moves)


def test_a_response_of_other_latents_is_refused(tmp_path: Path) -> None:
    response().save(tmp_path / "r")
    with pytest.raises(BundleError, match=f"got directions of {SIZE} numbers; expected 20, as a latent has"):
        LandmarkResponse.load(tmp_path / "r", 20)
