"""Muon comes near the decomposition that it approximates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (2, 5, 8), (2, 8, 5)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    got = orthogonal(matrices)
    values = torch.linalg.svdvals(got)
    assert got.shape == matrices.shape
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3
    assert float((got * (u @ v)).sum() / got.norm() / (u @ v).norm()) > 0.97


def test_a_stack_is_its_matrices_one_by_one() -> None:
    matrices = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(orthogonal(matrices), torch.stack([orthogonal(m) for m in matrices]), atol=0.02)


def test_zero_stays_zero() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_it_solves_least_squares_and_skips_what_has_no_gradient() -> None:
    generator = torch.Generator().manual_seed(2)
    want = torch.randn(8, 5, generator=generator)
    inputs = torch.randn(64, 8, generator=generator)
    weight, idle = nn.Parameter(torch.zeros(8, 5)), nn.Parameter(torch.ones(2, 2))
    optimiser = Muon([weight, idle], lr=0.1)
    for i in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - i / 200)
        optimiser.zero_grad()
        (inputs @ (weight - want)).square().mean().backward()
        optimiser.step()
    assert float((weight - want).norm().detach()) < 0.05 * float(want.norm())
    assert torch.equal(idle, torch.ones(2, 2))
