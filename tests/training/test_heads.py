"""Synthetic heads without `anny`: their frames, and the rig made from a head model."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.synthetic import ACTIONS, BONES, egg
from topos_rt.head.rig import plain_names
from topos_rt.support.similarity import sphere_frame
from training.heads import normalise
from training.rig import make_rig, regressors


def test_every_head_gets_its_own_sphere() -> None:
    heads = egg().sample(5, seed=0) + np.arange(5)[:, None, None]
    normalised, radii = normalise(heads)
    assert normalised.dtype == np.float32
    assert np.linalg.norm(normalised, axis=2).max(1) == pytest.approx(1, abs=1e-6)
    assert normalised.max(1) == pytest.approx(-normalised.min(1), abs=1e-5)
    sizes = np.ptp(heads, axis=1)
    assert np.ptp(normalised, axis=1) * radii[:, None] == pytest.approx(sizes, rel=1e-4)


def test_the_hierarchy_is_built_in_that_frame() -> None:
    levels = egg().hierarchy.levels
    sizes = [len(level.features) for level in levels]
    assert sizes == sorted(sizes, reverse=True)
    assert np.linalg.norm(levels[0].features[:, :3], axis=1).max() == pytest.approx(1, abs=0.02)
    assert len(levels) == 5


def test_the_rig_of_a_head_model() -> None:
    rig = make_rig(egg(), radius=0.139)
    own_radius = normalise(egg().template[None])[1][0]
    assert rig.joint_names == plain_names(BONES)
    assert rig.shape_names == ACTIONS
    assert rig.num_vertices == len(egg().template)
    assert rig.skin_weights.sum(1) == pytest.approx(1)
    heaviest = np.take_along_axis(egg().skin, rig.skin_joints[:, :1].astype(int), 1)[:, 0]
    assert np.array_equal(heaviest, egg().skin.max(1))
    assert rig.shape("jawOpen") == pytest.approx(egg().action_deltas[4] * 0.139 / own_radius, rel=1e-5)


def test_joints_are_found_from_few_vertices_of_heads_not_seen_before() -> None:
    ids, weights = regressors(egg())
    assert ids.shape == weights.shape == (len(BONES), 32)
    assert weights.sum(1) == pytest.approx(1)
    assert all(len(set(row)) == 32 for row in ids.tolist())
    heads, joints = egg().sample(20, seed=1), egg().joints(20, seed=1)
    off = np.linalg.norm(np.einsum("jk,njki->nji", weights, heads[:, ids]) - joints, axis=2)
    still = np.linalg.norm(joints - joints.mean(0), axis=2)
    assert off.max() < 1e-3 and off.mean() < 0.15 * still.mean()
    assert np.linalg.norm(weights, axis=1).max() < 2  # noise at the vertices is not made larger


def test_the_binding_of_that_rig_is_at_the_template() -> None:
    rig = make_rig(egg(), radius=0.139)
    assert rig.binding is not None
    centre, radius = sphere_frame(egg().template)
    assert rig.binding.template == pytest.approx((egg().template - centre) * 0.139 / radius, abs=1e-6)
    assert np.array_equal(rig.binding.joints(rig.binding.template), rig.joint_positions)
