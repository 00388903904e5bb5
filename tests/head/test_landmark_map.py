from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.landmark_maps import landmark_map, map_parts
from tests.meshes import ball
from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.landmark_map import COUNT, LandmarkMap
from topos_rt.support.tensorfile import read_tensors, write_tensors

HEAD = ball()


def test_points_lie_in_their_triangles() -> None:
    found = landmark_map(HEAD.topology)
    corners = HEAD.positions[found.vertices]
    assert found.points(HEAD.positions) == pytest.approx(corners.mean(1))
    several = np.stack([HEAD.positions, 2 * HEAD.positions])
    assert found.points(several)[1] == pytest.approx(2 * corners.mean(1))


def test_it_goes_to_a_file_and_back(tmp_path: Path) -> None:
    made = landmark_map(HEAD.topology)
    made.save(tmp_path / "map")
    read = LandmarkMap.load(tmp_path / "map")
    assert read.num_vertices == made.num_vertices
    for name in ("vertices", "weights", "noise", "mirrored", "irises"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
        assert not getattr(read, name).flags.writeable


def set_at(name: str, place: Any, value: float) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets one number of an argument of a map."""

    def change(parts: dict[str, Any]) -> None:
        parts[name] = np.array(parts[name])
        parts[name][place] = value

    return change


def put(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts.update({name: value})


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "too few landmarks": (lambda p: p.update(noise=p["noise"][1:]), "landmark noise: got shape [467]"),
    "four corners": (
        put("vertices", np.zeros((COUNT, 4), np.int32)),
        "landmark vertices: got shape [468, 4]",
    ),
    "a vertex too far": (set_at("vertices", (3, 1), len(HEAD.positions)), "landmark vertices"),
    "a negative vertex": (set_at("vertices", (3, 1), -1), "landmark vertices: got -1"),
    "fractional vertices": (put("vertices", np.zeros((COUNT, 3))), "landmark vertices: got dtype float64"),
    "weights of another sum": (set_at("weights", (0, 0), 0.5), "landmark weights: got a row of sum 1.16"),
    "a negative weight": (put("weights", np.tile(np.float32([1.5, -0.5, 0]), (COUNT, 1))), "rows >= 0"),
    "a weight that is no number": (set_at("weights", (9, 0), np.nan), "landmark weights: got nan"),
    "no noise": (set_at("noise", 7, 0.0), "landmark noise: got 0"),
    "endless noise": (set_at("noise", 7, np.inf), "landmark noise: got inf"),
    "one-sided pairs": (set_at("mirrored", 10, 30), "landmark mirrored: got landmark 10 alone"),
    "a pair out of range": (set_at("mirrored", 10, 478), "landmark mirrored: got 478"),
    "one iris": (put("irises", np.zeros(1, np.int32)), "landmark irises: got shape [1]"),
    "an iris out of range": (put("irises", np.array([0, 10**6])), "landmark irises: got 1e+06"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_map_is_refused(case: str) -> None:
    change, message = BAD[case]
    parts = map_parts(HEAD.topology)
    change(parts)
    with pytest.raises(MeshInputError) as caught:
        LandmarkMap(**parts)
    assert message in str(caught.value)


def without(name: str) -> Callable[[dict[str, np.ndarray], dict[str, str]], object]:
    return lambda tensors, facts: tensors.pop(name)


BAD_FILES: dict[str, tuple[Callable[[dict[str, np.ndarray], dict[str, str]], object], str]] = {
    "an array missing": (without("noise"), "expected the arrays vertices"),
    "an array too many": (lambda tensors, facts: tensors.update(a=tensors["noise"]), "got a, irises"),
    "no count": (lambda tensors, facts: facts.clear(), "got no valid 'num_vertices'"),
    "a count in words": (lambda tensors, facts: facts.update(num_vertices="many"), "got no valid invalid"),
    "another topology": (lambda tensors, facts: facts.update(num_vertices="3"), "landmark vertices"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "map"
    landmark_map(HEAD.topology).save(path)
    tensors, facts = read_tensors(path)
    change, message = BAD_FILES[case]
    change(tensors, facts)
    write_tensors(path, tensors, facts)
    with pytest.raises(BundleError) as caught:
        LandmarkMap.load(path)
    assert message in str(caught.value) and "landmark file map" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_tensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("landmarks")
    for name in ("nothing", "text"):
        with pytest.raises(BundleError):
            LandmarkMap.load(tmp_path / name)
