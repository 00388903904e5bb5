"""The fit of a rig by the C++ numerics against `topos_rt.head.rig_fit`.

C++ sums in float64, Python in float32, which moves offsets by up to 0.6 micrometres on heads of `mini`, and
by 1.2 on one that is a third larger in one direction alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.meshes import ball_rig
from tests.sdk.numerics.calls import call
from topos_rt.head import rig_fit
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from topos_rt.support.similarity import fit_similarity

SINGLE_M, DOUBLE_M = 1.5e-6, 5e-8  # what offsets may differ by from Python's, and from its own in float64


def mini_rig() -> Rig:
    found = Bundle.open("mini", verify=False).rig
    assert found is not None
    return found


RIGS: dict[str, Callable[[], Rig]] = {"ball": ball_rig, "mini": mini_rig}


@contextmanager
def fits(lib: ctypes.CDLL, rig: Rig) -> Iterator[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """Yield what fits a rig to positions [V,3] float32 and returns joints [J,3] and offsets [K,3]."""
    binding = rig.binding
    assert binding is not None
    arrays = [
        rig.shape_index, rig.shape_delta, rig.shape_offsets, binding.template, binding.joint_index,
        binding.joint_weight, binding.joint_offsets, binding.contact_pairs, binding.contact_offsets,
        binding.parts,
    ]  # fmt: skip
    table = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    sizes = rig.num_vertices, len(rig.joint_names), len(rig.shape_names)
    made = ctypes.c_void_p(call(lib, "rig_new", *sizes, table, returns=ctypes.c_void_p))

    def fit(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        joints = np.full((sizes[1], 3), np.nan, np.float32)
        delta = np.full(rig.shape_delta.shape, np.nan, np.float32)
        call(lib, "rig_fit", made, positions, joints, delta)
        return joints, delta

    yield fit
    call(lib, "rig_delete", made)


def heads(rig: Rig) -> dict[str, np.ndarray]:
    """Return heads to fit a rig to, [V,3] float32 each."""
    assert rig.binding is not None
    own = rig.binding.template.astype(np.float64)
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    radius = np.abs(own).max()
    bumps = sum(
        np.outer(
            np.exp(-((own - own[i]) ** 2).sum(1) / (2 * (0.2 * radius) ** 2)), rng.normal(0, 0.05 * radius, 3)
        )
        for i in rng.integers(0, len(own), 12)
    )
    made = {
        "template": own, "stretched": own * [1.1, 1.3, 0.9], "bumpy": own + bumps,
        "turned": own @ turn.T, "far": own + bumps + [0.7, -2.0, 1.3],
    }  # fmt: skip
    return {name: points.astype(np.float32) for name, points in made.items()}


def largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b, axis=1).max())


@pytest.mark.parametrize("name", RIGS)
def test_rigs_of_heads(lib: ctypes.CDLL, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = RIGS[name]()
    with fits(lib, rig) as fit:
        for kind, head in heads(rig).items():
            want = fit_rig(rig, head)
            joints, delta = fit(head)
            assert joints.tobytes() == want.joint_positions.tobytes(), kind
            assert largest(delta, want.shape_delta) <= SINGLE_M, kind
            with monkeypatch.context() as patch:
                patch.setattr(rig_fit, "product", lambda a, b: a.astype(np.float64) @ b.astype(np.float64))
                want = fit_rig(rig, head)
            assert largest(delta, want.shape_delta) <= DOUBLE_M, kind


@given(st.integers(0, 2**32 - 1), st.sampled_from(["any", "flat", "mirrored", "near", "scaled"]))
@settings(max_examples=200)
def test_nearest_rotations(lib: ctypes.CDLL, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((16, 3, 3))
    if kind == "flat":
        m[:, :, 2] = m[:, :, 0] * 2 - m[:, :, 1]
    if kind == "mirrored":
        m = np.eye(3) * [1.0, 1.1, -0.5] + 0.01 * m
    if kind == "near":
        m = np.linalg.qr(m)[0] + 1e-9 * m
    if kind == "scaled":
        m *= 1e-9
    left, values, right = np.linalg.svd(m)
    sign = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= sign[:, None]
    got = np.empty_like(m)
    call(lib, "nearest_rotations", m, len(m), got)
    assert np.abs(np.linalg.det(got) - 1).max() < 1e-12
    assert np.abs(got @ got.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    # How well a rotation is determined depends on how far the two smaller values are from cancelling out.
    slack = values[:, 1] + np.where(kind == "flat", 0, sign) * values[:, 2]
    error = np.abs(got - left @ right).max((1, 2)) * slack / values[:, 0]
    assert error.max() < 1e-13


@given(st.integers(0, 2**32 - 1), st.integers(4, 30), st.floats(0.01, 50))
def test_similarities(lib: ctypes.CDLL, seed: int, n: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    b = scale * a @ (turn * np.sign(np.linalg.det(turn))).T + rng.standard_normal(3)
    b += rng.normal(0, 0.05 * scale, b.shape)
    want, got = fit_similarity(a, b), np.empty(13)
    call(lib, "fit_similarity", a, b, n, got)
    wanted = np.concatenate([[want.scale], want.rotation.reshape(-1), want.shift])
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)
