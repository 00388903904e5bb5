"""The measures of faces: against scikit-image, brute force, and what they must leave out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from skimage.transform import SimilarityTransform

from topos_rt.errors import MeshInputError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.model.bundle import Bundle
from topos_rt.scan.face_errors import face_errors, head_vertices
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head
from topos_rt.scan.metrics import compare
from topos_rt.scan.surface import Surface

BUNDLE = Bundle.open("mini", verify=False)
REGION = face_region(BUNDLE)
MEAN = mean_head(BUNDLE).points * BUNDLE.manifest.frame.radius_m
TOPOLOGY = BUNDLE.topology


def bent(seed: int, metres: float = 0.003) -> np.ndarray:
    """Return the mean head, changed smoothly."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 25, (3, 3)), rng.uniform(0, 6, 3)
    return MEAN + metres * np.sin(MEAN @ waves + phases)


def head(positions: np.ndarray) -> HeadMesh:
    placed = positions.astype(np.float32)
    return HeadMesh(placed, vertex_normals(placed, TOPOLOGY.triangles), TOPOLOGY)


def aligned(source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points moved as scikit-image's similarity moves source to target."""
    found = SimilarityTransform(dimensionality=3)
    assert found.estimate(source, target)
    return found(points)


@pytest.mark.filterwarnings("ignore:.estimate. is deprecated")
def test_against_scikit_image_and_brute_force() -> None:
    predicted, truth = bent(1), bent(2)
    found = face_errors(predicted, truth, REGION)
    face = REGION.vertices
    moved = aligned(predicted[face], truth[face], predicted)
    apart = 1000 * np.linalg.norm(moved[face] - truth[face], axis=1)
    assert found.vertices == len(face)
    assert (found.mean_mm, found.median_mm) == (pytest.approx(apart.mean()), pytest.approx(np.median(apart)))
    assert 1 < found.mean_mm < 5
    # Nearest points by brute force: hundreds of points on each triangle.
    u, v = (g.ravel() / 14 for g in np.meshgrid(np.arange(15), np.arange(15)))
    weights = np.stack([1 - u - v, u, v], 1)[u + v <= 1.0001]

    def nearest(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dense = np.einsum("wk,fkx->fwx", weights, positions[REGION.triangles]).reshape(-1, 3)
        distance, ids = cKDTree(dense).query(truth[face])
        return 1000 * distance, dense[ids]

    for _ in range(3):
        moved = aligned(nearest(moved)[1], truth[face], moved)
    off = nearest(moved)[0]
    assert found.now_median_mm == pytest.approx(np.median(off), rel=0.02)
    assert found.now_mean_mm == pytest.approx(off.mean(), rel=0.02)
    assert found.now_std_mm == pytest.approx(off.std(), rel=0.02)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.5, 2), st.floats(-1, 1))
def test_place_turn_and_size_of_the_prediction_do_not_count(seed: int, scale: float, shift: float) -> None:
    predicted, truth = bent(seed), bent(seed + 1)
    turn = Rotation.random(random_state=seed % 1000).as_matrix()
    found, again = (
        face_errors(p, truth, REGION) for p in (predicted, scale * predicted @ turn.T + [shift, 0, 1])
    )
    for name in ("mean_mm", "median_mm", "now_median_mm", "now_mean_mm", "now_std_mm"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-4)


def test_only_the_face_counts() -> None:
    truth = bent(3)
    elsewhere = np.setdiff1d(np.arange(len(MEAN)), np.unique(REGION.triangles))
    predicted = truth.copy()
    predicted[elsewhere] += 0.05
    found = face_errors(predicted, truth, REGION)
    assert found.mean_mm < 1e-9 and found.now_mean_mm < 1e-6


def test_a_surface_that_slides_along_itself_is_wrong_by_vertices_only() -> None:
    """What tells the two measures apart: vertices moved within their surface."""
    rng = np.random.default_rng(0)
    corners = REGION.triangles[rng.permutation(len(REGION.triangles))]
    _, first = np.unique(corners[:, 0], return_index=True)
    slid = MEAN.copy()
    slid[corners[first, 0]] = 0.5 * MEAN[corners[first, 0]] + 0.5 * MEAN[corners[first, 1]]
    found = face_errors(slid, MEAN, REGION)
    assert found.mean_mm > 1.2 and found.now_median_mm < 0.2 * found.mean_mm


@pytest.mark.parametrize("change", [lambda p: p[1:], lambda p: p[:, :2]])
def test_other_sizes_are_refused(change: object) -> None:
    with pytest.raises(MeshInputError, match=r"head: got vertices \[.*\]; expected \[4538, 3\]"):
        face_errors(change(MEAN), MEAN, REGION)  # type: ignore[operator]


def test_compare_measures_faces_where_a_model_is_named() -> None:
    predicted, truth = head(bent(4)), head(bent(5))
    found = compare(predicted, truth, samples=200, model=BUNDLE)
    assert found.face == face_errors(predicted.positions, truth.positions, REGION)
    assert found.to_json()["face"]["vertices"] == len(REGION.vertices)
    assert compare(predicted, truth, samples=200).to_json()["face"] is None


def swapped(triangles: np.ndarray) -> np.ndarray:
    """Return triangles with two vertices in each other's place."""
    out = triangles.copy()
    out[triangles == 7], out[triangles == 4000] = 4000, 7
    return out


OTHERS = {
    "cloud": (Surface(MEAN, np.zeros((0, 3), np.int64)), "the prediction: got a point cloud; expected"),
    "lod": (head(MEAN).lod(1), "got 2,284 vertices, 4,506 triangles; expected a head of the model: 4,538"),
    "order": (Surface(MEAN, swapped(TOPOLOGY.triangles)), "9,014 triangles, joined otherwise; expected"),
    "fewer": (Surface(MEAN, TOPOLOGY.triangles[1:]), "got 4,538 vertices, 9,013 triangles; expected"),
    "copies": (
        Surface(np.vstack([MEAN, MEAN[:1] + 1]), np.where(TOPOLOGY.triangles, TOPOLOGY.triangles, 4538)),
        "got 4,539 vertices, 9,014 triangles, joined otherwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_shapes_of_other_topologies_are_refused(case: str) -> None:
    shape, message = OTHERS[case]
    with pytest.raises(MeshInputError, match=f"cannot compare faces: .*{message}"):
        compare(shape, head(MEAN), samples=100, model=BUNDLE)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".gltf"])
def test_files_of_a_head_are_heads(suffix: str, tmp_path: object) -> None:
    from topos_rt.scan.read import read_surface

    positions = bent(6)
    head(positions).save(f"{tmp_path}/head{suffix}")
    surface, _ = read_surface(f"{tmp_path}/head{suffix}")
    assert np.allclose(head_vertices(surface, REGION), positions, atol=1e-6)
