"""The compiled fits of rigs and normals of blendshapes against their twins in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.meshes import ball, ball_rig, bundled_head
from topos_rt.errors import InputError
from topos_rt.faces import fit
from topos_rt.faces.camera import Camera
from topos_rt.faces.expression import NAMES
from topos_rt.faces.fit import fit_head
from topos_rt.faces.pose import rotation
from topos_rt.formats import morphs
from topos_rt.head import rig_fit
from topos_rt.head.landmark_map import COUNT, IRISES
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import BINDING_ARRAYS, Rig
from topos_rt.model.bundle import Bundle
from topos_rt.support.native import native

SINGLE_M = 2e-6  # the twin sums in float32


@pytest.fixture(scope="module")
def compiled() -> Any:
    return needs.tool("topos_rt._native", native(), "install topos_rt where there is a C++ compiler")


@contextmanager
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(rig_fit, "_compiled", lambda rig: None)
        patch.setattr(morphs, "native", lambda: None)
        yield


def head_of(name: str) -> tuple[HeadMesh, Rig]:
    made = bundled_head() if name == "mini" else ball()
    rig = made.rig if name == "mini" else ball_rig()
    assert rig is not None
    return made, rig


@pytest.mark.parametrize("name", ["ball", "mini"])
def test_rigs_and_normals_are_those_of_the_twins(
    compiled: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, rig = head_of(name)
    positions = (head.positions * [1.05, 0.97, 1.0]).astype(np.float32)
    fitted = rig_fit.fit_rig(rig, positions)
    normals = [each.normals for each in morphs.surface_morphs(positions, head.triangles, fitted)]
    with twins(monkeypatch):
        other = rig_fit.fit_rig(rig, positions)
        wanted = [each.normals for each in morphs.surface_morphs(positions, head.triangles, fitted)]
    assert fitted.joint_positions.tobytes() == other.joint_positions.tobytes()
    assert np.abs(fitted.shape_delta - other.shape_delta).max() < SINGLE_M
    assert np.concatenate(normals).tobytes() == np.concatenate(wanted).tobytes()
    assert any(each.any() for each in normals)


def test_positions_in_float64_keep_their_digits(compiled: Any) -> None:
    """The compiled fit takes float32, in which a head far from the origin would lose its shape."""
    head, rig = head_of("mini")
    near = rig_fit.fit_rig(rig, head.positions.astype(np.float64))
    far = rig_fit.fit_rig(rig, head.positions + np.array([1e5, 0, 0]))
    assert np.abs(near.shape_delta - far.shape_delta).max() < 1e-6


def rig_arrays() -> dict[str, np.ndarray]:
    _, rig = head_of("ball")
    shapes = {name: getattr(rig, name) for name in ("shape_index", "shape_delta", "shape_offsets")}
    return shapes | {name: getattr(rig.binding, name) for name in BINDING_ARRAYS}


def changed(name: str, value: int) -> np.ndarray:
    array = rig_arrays()[name].copy()
    array.ravel()[-1] = value
    return array


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("shape_index", lambda: changed("shape_index", 10**6), "shape_index are out of range"),
        ("shape_index", lambda: changed("shape_index", -1), "shape_index are out of range"),
        ("joint_index", lambda: changed("joint_index", 10**6), "joint_index are out of range"),
        ("contact_pairs", lambda: np.int32([[0, 10**6]]), "contact_offsets|contact_pairs"),
        ("shape_offsets", lambda: changed("shape_offsets", 1), "shape_offsets do not rise"),
        ("shape_delta", lambda: rig_arrays()["shape_delta"][:-1], "shape_delta has another shape"),
        ("parts", lambda: rig_arrays()["parts"][:-1], "parts has another shape"),
        ("template", lambda: rig_arrays()["template"][:, :2].copy(), "template has another shape"),
    ],
)
def test_wrong_arrays_are_refused(compiled: Any, name: str, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled.RigFitter(**rig_arrays() | {name: wrong()})


def test_arrays_of_other_types_are_refused_not_copied(compiled: Any) -> None:
    with pytest.raises(TypeError):
        compiled.RigFitter(**rig_arrays() | {"template": rig_arrays()["template"].astype(np.float64)})
    head, rig = head_of("ball")
    fitter = compiled.RigFitter(**rig_arrays())
    with pytest.raises(TypeError):
        fitter.fit(head.positions.astype(np.float64))
    with pytest.raises(ValueError, match="positions has another shape"):
        fitter.fit(head.positions[:-1])
    shapes = {"index": rig.shape_index, "delta": rig.shape_delta, "offsets": rig.shape_offsets}
    surface = {"positions": head.positions, "triangles": head.triangles}
    with pytest.raises(ValueError, match="triangles are out of range"):
        compiled.morph_normals(**shapes, **surface | {"triangles": head.triangles + 10**6})


@pytest.mark.parametrize("rigged", [True, False])
@pytest.mark.parametrize("focal", [None, 1300.0])
def test_fits_to_faces(
    rigged: bool, focal: float | None, compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same search as in NumPy, rounded otherwise; landmarks that are no face have NumPy's message."""
    landmarks = Bundle.open("mini", verify=False).landmarks
    head = bundled_head()
    assert landmarks is not None
    truth = Camera(rotation(12, -5, 20), np.array([0.02, -0.01, -1.2]), 1300, (320, 240))
    face = np.zeros((478, 3), np.float32)
    face[:COUNT, :2] = truth.project(landmarks.points(head.positions.astype(np.float64)))
    for first, middle in zip(
        IRISES, truth.project(head.positions[landmarks.irises].astype(np.float64)), strict=True
    ):
        face[first : first + 5, :2] = middle
    given = (head.positions, head.rig if rigged else None, landmarks, face, (640, 480), focal)
    scores = dict(zip(NAMES[1:], np.random.default_rng(5).random(51).tolist(), strict=True))
    made = fit_head(*given, scores)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "native", lambda: None)
        want = fit_head(*given, scores)
    assert want.pose.turn.tobytes() != made.pose.turn.tobytes()  # two ways to compute it
    np.testing.assert_allclose(made.pose.turn, want.pose.turn, atol=1e-5)
    np.testing.assert_allclose(made.pose.shift, want.pose.shift, atol=1e-5)
    assert (
        made.pose.focal == pytest.approx(want.pose.focal, rel=1e-5) and made.pose.centre == want.pose.centre
    )
    assert list(made.expression) == list(want.expression)
    assert made.expression == pytest.approx(want.expression, abs=1e-5)
    assert made.residual == pytest.approx(want.residual, abs=1e-5)
    with pytest.raises(InputError, match="too close together"):
        fit_head(head.positions, head.rig, landmarks, face * 0)


def test_arguments_of_fits_to_faces_that_do_not_fit(compiled: Any) -> None:
    landmarks = Bundle.open("mini", verify=False).landmarks
    head = bundled_head()
    assert landmarks is not None and head.rig is not None
    names = ("vertices", "weights", "noise", "mirrored", "irises")
    rig = head.rig
    sound = {
        "positions": head.positions, "map": tuple(getattr(landmarks, name) for name in names),
        "shapes": (rig.shape_index, rig.shape_delta, rig.shape_offsets, np.full(52, -1, np.int32)),
        "landmarks": np.zeros((478, 3), np.float32), "size": None, "focal": 0.0,
        "scores": np.zeros(0, np.float32),
    }  # fmt: skip
    assert compiled.fit_face(**sound)[0] == "points too close together"
    low, high = rig.shape_index.copy(), landmarks.vertices.copy()
    low[3], high[5, 1] = -1, len(head.positions)
    for name, value in (
        ("positions", head.positions[:9]), ("landmarks", np.zeros((477, 3), np.float32)),
        ("map", (high, *sound["map"][1:])), ("shapes", (low, *sound["shapes"][1:])),
        ("shapes", (*sound["shapes"][:3], np.full(52, 99, np.int32))),
        ("scores", np.zeros(51, np.float32)), ("map", (*sound["map"][:4], landmarks.irises[:1])),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            compiled.fit_face(**sound | {name: value})
