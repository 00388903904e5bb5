"""The VAE's data, start and loss are checked on synthetic heads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import mini as config
from tests.training.synthetic import egg
from training import train_vae, vae_data
from training.linear_decoder import LinearDecoder, fit
from training.train_vae import begin_linearly, build, evaluate, loss_of, vertex_error_mm
from training.vae_data import VAEData

RANK = 5


@pytest.fixture(scope="module", autouse=True)
def small_rank() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.VAE, "linear_rank", RANK)
        yield


@pytest.fixture(scope="module")
def data() -> VAEData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_data, "HELD_OUT_HEADS", 4)
        return VAEData(egg(), heads=60)


def test_the_data(data: VAEData) -> None:
    assert data.positions.shape == (60, egg().topology.num_vertices, 3)
    assert len(data.held_out) == len(data.held_out_radii) == 4
    assert float(data.scale[0]) == pytest.approx(float((data.positions - data.mean).square().mean().sqrt()))
    assert len(set(data.scale[:3].tolist())) == len(set(data.scale[3:].tolist())) == 1
    overlap = (data.positions[:, None, :50] - data.held_out[None, :, :50]).abs().amax((2, 3))
    assert float(overlap.min()) > 1e-4  # no head is in both


def test_an_untrained_decoder_starts_near_the_mean_head(data: VAEData) -> None:
    torch.manual_seed(0)
    vae = build(egg(), data)
    with torch.no_grad():
        got = vae.decode(torch.zeros(1, data.offsets.num_latents, config.VAE["code_channels"]))[0]
    away = (got[:, :3] - data.mean).abs().max()
    assert 0 < float(away) < 10 * float(data.scale[0])


@pytest.mark.parametrize("anchored", [True, False])
def test_the_loss_teaches_both_halves(data: VAEData, anchored: bool) -> None:
    torch.manual_seed(0)
    vae = build(egg(), data).train()
    want = data.positions[:2]
    points = data.geometry.sample_surface(want, 64, torch.Generator().manual_seed(0))
    loss, parts = loss_of(vae, data, want, points, anchored)
    loss.backward()
    expected = sum(weight * parts[name] for name, weight in train_vae.WEIGHTS.items())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    for part in (vae.encoder, vae.pre_kl, vae.decoder, vae.header):
        gradients = [p.grad for p in part.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert max(float(g.abs().max()) for g in gradients) > 0


def test_the_linear_part_is_the_best_of_its_rank(data: VAEData) -> None:
    """Nothing of the same rank that is linear in latents comes nearer to the heads; and it is orthonormal."""
    latents = torch.cat([data.offsets(data.positions).flatten(1), torch.ones(60, 1)], 1)
    best = latents @ torch.linalg.lstsq(latents, data.positions.flatten(1), driver="gelsd").solution
    middle = best.mean(0)
    errors = []
    for rank in (2, 5):
        linear = fit(data, rank)
        assert torch.allclose(linear.basis @ linear.basis.T, torch.eye(rank), atol=1e-4)
        got = linear(data.offsets(data.positions)).flatten(1)
        left, values, right = torch.linalg.svd(best - middle, full_matrices=False)
        want = middle + (left[:, :rank] * values[:rank]) @ right[:rank]
        truth = data.positions.flatten(1)
        errors += [float((made - truth).norm()) for made in (got, want)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
    assert errors[2] == pytest.approx(errors[3], rel=0.02) and errors[2] < 0.7 * errors[0]


def test_a_network_that_begins_linearly_decodes_linearly(data: VAEData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, linear = build(egg(), data), fit(data, RANK)
    begin_linearly(vae, linear)
    latents = data.offsets(data.held_out)
    with torch.no_grad():
        got = vae.decode(latents)
    assert torch.allclose(got[..., :3], linear(latents), atol=1e-5)
    linear.save(tmp_path)
    assert torch.equal(LinearDecoder.open(tmp_path)(latents), linear(latents))


def test_errors_are_in_millimetres_of_each_head() -> None:
    want = torch.zeros(2, 5, 3)
    got = want + torch.tensor([0.0, 0.03, 0.04])
    assert vertex_error_mm(got, want, torch.tensor([0.1, 0.3])) == pytest.approx(0.05 * 200)


def test_evaluation_repeats(data: VAEData) -> None:
    torch.manual_seed(0)
    vae = build(egg(), data).eval()
    with torch.no_grad():
        one, again = evaluate(vae, data), evaluate(vae, data)
    assert one == again
    assert one["mm"] > 0
