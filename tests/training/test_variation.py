"""Directions that a picture leaves open: orthonormal, away from the face, and where errors are largest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.training.synthetic import egg
from training.variation import EstimateErrors, open_directions, open_nodes


def test_nodes_of_the_face_are_closed() -> None:
    hierarchy = egg().hierarchy
    latents = len(hierarchy.levels[4].features)
    shown = np.flatnonzero(egg().template[:, 2] > 0.05)
    nodes = open_nodes(hierarchy, latents, shown)
    assert nodes.shape == (latents,) and 0 < int((~nodes).sum()) < latents
    at = hierarchy.levels[4].features[:, 2]
    assert at[~nodes.numpy()].min() > at[nodes.numpy()].mean()
    assert bool(open_nodes(hierarchy, latents, np.array([], np.int64)).all())


def test_directions_are_orthonormal_and_find_the_largest_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    nodes = torch.arange(20) >= 8
    hidden = torch.randn(3, 20, 6, generator=generator)
    residuals = torch.einsum("nk,kvd->nvd", torch.randn(500, 3, generator=generator), hidden)
    directions = open_directions(residuals, nodes, 3)
    assert torch.allclose(directions @ directions.T, torch.eye(3), atol=1e-5)
    assert float(directions.view(3, 20, 6)[:, :8].abs().max()) < 1e-6
    flat = (residuals * nodes[:, None]).flatten(1)
    assert float((flat - flat @ directions.T @ directions).norm() / flat.norm()) < 1e-3


def test_errors_of_estimates_come_back_as_they_were_saved(tmp_path: Path) -> None:
    residuals = 3 * torch.randn(500, 20, 6, generator=torch.Generator().manual_seed(1))
    errors = EstimateErrors.of(residuals, torch.arange(20) >= 8)
    assert abs(errors.residual_scale - 3) < 0.1
    errors.save(tmp_path)
    again = EstimateErrors.open(tmp_path)
    assert again.residual_scale == errors.residual_scale and torch.equal(again.directions, errors.directions)
