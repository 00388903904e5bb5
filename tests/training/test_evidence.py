"""The encoder of evidence: its estimate against least squares, what is missing, and what is fitted."""

from __future__ import annotations

import pytest
import torch

from models import EvidenceEncoder, ImageEncoder
from models.evidence import SHAPES, Seen
from tests.training.evidence import fit, some_evidence
from training import evidence

CHANNELS, ESTIMATE, PEOPLE = 32, 4, 120
TOKENS = {"landmarks": 2, "manner": 1, "estimate": 2}


@pytest.fixture(scope="module")
def encoder() -> EvidenceEncoder:
    torch.manual_seed(0)
    image = ImageEncoder(embed_dim=CHANNELS, depth=1, num_heads=2, img_size=32, patch_size=16)
    return EvidenceEncoder(
        image,
        channels=CHANNELS,
        depth=1,
        num_heads=2,
        landmark_components=5,
        estimate=ESTIMATE,
        tokens=TOKENS,
        latent=(7, 6),
    ).eval()


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.randn(PEOPLE, ESTIMATE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(PEOPLE, 9, CHANNELS, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def basis() -> torch.Tensor:
    made = torch.linalg.qr(torch.randn(42, ESTIMATE, generator=torch.Generator().manual_seed(4)))[0]
    return made.T.contiguous()


@pytest.fixture(scope="module")
def fitted(
    encoder: EvidenceEncoder, codes: torch.Tensor, image: torch.Tensor, basis: torch.Tensor
) -> torch.Tensor:
    """What people's codes are by their latents, which are linear in `codes`."""
    anchors = (codes @ basis).view(PEOPLE, 7, 6)
    seen = some_evidence(codes, noise=0.05)
    return fit(encoder, image, seen, torch.arange(PEOPLE), anchors, basis)


def test_scales_bring_evidence_to_unit_variance(
    encoder: EvidenceEncoder, fitted: torch.Tensor, codes: torch.Tensor
) -> None:
    seen = some_evidence(codes, noise=0.05)
    coordinates = encoder.evidence_scales(*seen).landmarks
    assert torch.allclose(coordinates.var(0, unbiased=False), torch.ones(5), atol=0.02)
    assert float(encoder.evidence_estimate.landmark_share.square().sum()) == pytest.approx(1, abs=1e-4)
    assert encoder.evidence_scales(*seen).features.var((0, 2, 3)).sub(1).abs().max() < 0.05


@torch.no_grad()
def test_the_estimate_is_ridge_regression(
    encoder: EvidenceEncoder, fitted: torch.Tensor, codes: torch.Tensor, image: torch.Tensor
) -> None:
    """The normal equations hold: X^T (Y - X W) = ridge * W, of centred X and Y."""
    seen = some_evidence(codes, noise=0.05)
    x = encoder.regressors(image, seen)
    x, y = x - x.mean(0), fitted - fitted.mean(0)
    weights = encoder.evidence_estimate.weight.T
    left = x.T @ (y - x @ weights)
    assert torch.allclose(left, evidence.RIDGE * weights, atol=2e-3)
    got = encoder.estimate(image, seen)
    assert torch.allclose(got, x @ weights + fitted.mean(0), atol=1e-4)


@torch.no_grad()
def test_estimates_are_codes_of_latents(
    encoder: EvidenceEncoder,
    fitted: torch.Tensor,
    codes: torch.Tensor,
    image: torch.Tensor,
    basis: torch.Tensor,
) -> None:
    assert torch.allclose(encoder.latents(fitted).flatten(1), codes @ basis, atol=1e-3)
    made = encoder.latents(encoder.estimate(image, some_evidence(codes, noise=0.05))).flatten(1)
    assert float((made - codes @ basis).square().mean()) < 0.1 * float((codes @ basis).square().mean())


@torch.no_grad()
@pytest.mark.parametrize("name", [*SHAPES, "image"])
def test_what_is_missing_does_not_reach_the_tokens(
    name: str, encoder: EvidenceEncoder, fitted: torch.Tensor, codes: torch.Tensor, image: torch.Tensor
) -> None:
    """A part that is all zero is told from a part that is not, and gives finite tokens."""
    seen, tokens, estimate = some_evidence(codes[:2]), image[:2], codes[:2]
    whole = encoder.fuse(tokens, seen, estimate)
    if name == "image":
        without = encoder.fuse(torch.zeros_like(tokens), seen, estimate)
    else:
        without = encoder.fuse(tokens, seen._replace(**{name: torch.zeros(2, *SHAPES[name])}), estimate)
    assert without.shape == whole.shape == (2, 9 + 64 + sum(TOKENS.values()), CHANNELS)
    assert torch.isfinite(without).all() and not torch.allclose(whole, without, atol=1e-3)


@torch.no_grad()
def test_nothing_seen_at_all_is_one_set_of_tokens(encoder: EvidenceEncoder, fitted: torch.Tensor) -> None:
    nothing = Seen(*(torch.zeros(2, *shape) for shape in SHAPES.values()))
    image = torch.randn(2, 9, CHANNELS)
    assert not encoder.estimate(image, nothing).any()
    tokens = encoder.fuse(torch.zeros_like(image), nothing, torch.zeros(2, ESTIMATE))
    assert torch.allclose(tokens[0], tokens[1], atol=1e-6)


@torch.no_grad()
def test_the_graph_s_inputs_give_the_same_tokens_and_the_latents(
    encoder: EvidenceEncoder, fitted: torch.Tensor, codes: torch.Tensor
) -> None:
    pixels, seen = torch.rand(1, 3, 32, 32), some_evidence(codes[:1])
    aligned = torch.rand(1, 150, 150, 3)
    image, turned = encoder.encoder(pixels), encoder.encoder(pixels.flip(-1))
    cut = aligned.permute(0, 3, 1, 2)
    seen = seen._replace(features=encoder.trunk(cut))
    encoder.evidence_mirror.normal_(generator=torch.Generator().manual_seed(4))
    mirrored = encoder.estimate(turned, seen.mirrored(encoder.trunk(cut.flip(-1))))
    back = torch.cat([mirrored, torch.ones(1, 1)], 1) @ encoder.evidence_mirror.T
    estimate = (encoder.estimate(image, seen) + back) / 2
    encoder.evidence_latents.normal_(generator=torch.Generator().manual_seed(3))
    tokens, latents = encoder(pixels, *seen[:3], aligned)
    assert torch.allclose(tokens, encoder.fuse(image, seen, estimate), atol=1e-4)
    assert torch.allclose(latents.flatten(1), estimate @ encoder.evidence_latents, atol=1e-4)
    assert latents.shape == (1, 7, 6)
    # Without one of these it is the mean head.
    assert not encoder(pixels, torch.zeros_like(seen.landmarks), *seen[1:3], aligned)[1].any()
    assert not encoder(pixels, *seen[:3], torch.zeros_like(aligned))[1].any()
