"""The face of a model's heads follows from its mean head and its landmark map."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh

from topos_rt.errors import BundleError
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.scan.face_region import RADIUS_M, FaceRegion, face_region
from topos_rt.scan.fit import mean_head


class Model:
    """What is needed of a bundle to find the face of its heads."""

    def __init__(self, bundle: Bundle, topology: Topology, positions: np.ndarray) -> None:
        self.manifest, self.topology, self.path = bundle.manifest, topology, bundle.path
        assert bundle.landmarks is not None
        self.landmarks = dataclasses.replace(bundle.landmarks, num_vertices=topology.num_vertices)
        turned = positions @ bundle.manifest.frame.rotation
        self.hierarchy = SimpleNamespace(levels=[SimpleNamespace(features=turned)])


def region_of(model: Any) -> FaceRegion:
    return face_region(model)


@pytest.fixture(scope="module")
def mini() -> Bundle:
    return Bundle.open("mini", verify=False)


@pytest.fixture(scope="module")
def mean(mini: Bundle) -> np.ndarray:
    return mean_head(mini).points * mini.manifest.frame.radius_m


def test_the_face_of_mini(mini: Bundle, mean: np.ndarray) -> None:
    region = face_region(mini)
    face = np.isin(np.arange(len(mean)), region.vertices)
    assert len(region.vertices) == 1735  # docs/training.md says so
    assert mini.landmarks is not None
    tip = mini.landmarks.points(mean)[1]
    assert np.linalg.norm(mean[face] - tip, axis=1).max() < RADIUS_M
    assert not face[mini.topology.regions["eyes"]].any() and not face[mini.topology.regions["tongue"]].any()
    assert face[mini.topology.regions["lips"]].mean() > 0.6  # the rest is inside the closed mouth
    assert face[mini.topology.regions["brows"]].mean() > 0.95
    # Most points of the skin that landmarks lie on are in the face; those of the oval's sides are not.
    corners = face[mini.landmarks.vertices]
    assert corners.all(1).mean() > 0.85 and not corners[[234, 454]].any()
    assert np.abs(mean[face, 0]).max() < np.abs(mini.landmarks.points(mean)[454, 0])


def test_the_surface_that_is_measured_to_goes_beyond_the_face(mini: Bundle) -> None:
    region = face_region(mini)
    around = np.unique(region.triangles)
    assert np.isin(region.vertices, around).all() and len(around) > len(region.vertices)


def test_it_needs_no_names_of_regions(mini: Bundle, mean: np.ndarray) -> None:
    bare = dataclasses.replace(mini.topology, regions={})
    found = region_of(Model(mini, bare, mean / mini.manifest.frame.radius_m))
    assert np.array_equal(found.vertices, face_region(mini).vertices)


def test_a_finer_mesh_has_the_same_face(mini: Bundle, mean: np.ndarray) -> None:
    points, triangles = trimesh.remesh.subdivide(mean, mini.topology.triangles)
    fine = Topology.from_polygons(len(points), triangles.tolist())
    found = region_of(Model(mini, fine, points / mini.manifest.frame.radius_m))
    coarse = face_region(mini)
    again = found.vertices[found.vertices < len(mean)]
    both = np.intersect1d(again, coarse.vertices)
    assert len(both) > 0.97 * max(len(again), len(coarse.vertices))
    assert len(found.vertices) == pytest.approx(4 * len(coarse.vertices), rel=0.05)


def test_a_model_without_a_landmark_map(own_bundle: Path) -> None:
    bundle = Bundle.open(own_bundle)
    (own_bundle / "landmarks.safetensors").unlink()
    write_manifest(own_bundle, dataclasses.replace(bundle.manifest, landmarks=None))
    with pytest.raises(
        BundleError, match="landmark map of the model tiny: got none; expected one, which"
    ) as e:
        face_region(Bundle.open(own_bundle))
    assert "fix: python -m export landmarks" in str(e.value)


def test_a_map_that_shows_no_face(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"tiny: got a face of \d+ vertices; expected 50 or more"):
        face_region(Bundle.open(tiny_bundle))
