"""The flow's losses, its sampling, what is dropped from evidence, and how heads are judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models import mini as config
from models.evidence import SHAPES
from tests.training.evidence import fit, some_evidence
from training.judge import Judge, without_similarity
from training.linear_decoder import LinearDecoder
from training.train_flow import (
    DROPPED,
    MIXED_SHARE,
    PURE_NOISE_SHARE,
    Batch,
    Data,
    FlowModel,
    damaged,
    draw_times,
    estimates_of,
    evaluate,
    flow_loss,
    mixed,
    sample_flow,
)
from training.variation import residual_scale

LATENTS, VERTICES, PEOPLE = 20, 30, 40
SMALL: dict[str, dict[str, Any]] = {
    "DIT": {
        "num_latents": LATENTS,
        "model_channels": 32,
        "cond_channels": 32,
        "num_blocks": 1,
        "num_heads": 2,
    },
    "IMAGE_ENCODER": {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 32, "stem_channels": ()},
    "EVIDENCE": {
        "channels": 32,
        "depth": 1,
        "num_heads": 2,
        "landmark_components": 5,
        "estimate": 3,
        "latent": (LATENTS, 6),
    },
}


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "NUM_LATENTS", LATENTS)
        for name, values in SMALL.items():
            for key, value in values.items():
                patch.setitem(getattr(config, name), key, value)
        patch.delitem(config.IMAGE_ENCODER, "stem_blocks")
        yield


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model(small_networks: None) -> FlowModel:
    torch.manual_seed(0)
    return FlowModel().eval()


@pytest.fixture(scope="module")
def data() -> Data:
    """People who differ in three directions, which evidence tells."""
    codes = torch.randn(PEOPLE, 3, generator=seeded(1)) * torch.tensor([3.0, 1.5, 0.7])
    anchors = (codes @ torch.randn(3, LATENTS * 6, generator=seeded(2))).view(PEOPLE, LATENTS, 6)
    base = torch.randn(VERTICES, 3, generator=seeded(6)) * 0.5
    positions = base + (codes @ torch.randn(3, VERTICES * 3, generator=seeded(3))).view(PEOPLE, -1, 3) * 0.01
    image = torch.randn(PEOPLE, 9, 32, generator=seeded(4)).half()
    radii = torch.full((PEOPLE,), 0.14)
    return Data(some_evidence(codes, 0.01), torch.arange(PEOPLE), image, anchors, positions, radii)


def fitted(model: FlowModel, data: Data, linear: LinearDecoder) -> Tensor:
    """Fit the linear estimate of a model, and return its estimates."""
    fit(model.encoder, data.image, data.seen, data.person, data.anchors, linear.basis)
    return estimates_of(model, data)


@pytest.fixture(scope="module")
def linear(data: Data) -> LinearDecoder:
    """The decoder of that world, exactly."""
    latents = data.anchors.flatten(1)
    basis = torch.linalg.svd(latents, full_matrices=False)[2][:3]
    codes, mean = latents @ basis.T, data.positions.mean(0)
    moved, middle = (data.positions - mean).flatten(1), codes.mean(0)
    vertices = torch.linalg.lstsq(codes - middle, moved).solution
    return LinearDecoder(basis, vertices.view(3, -1, 3), mean - (middle @ vertices).view_as(mean))


def some_tokens(count: int) -> Tensor:
    return torch.randn(count, 12, 32, generator=seeded(3))


def test_an_untrained_network_predicts_no_velocity(model: FlowModel) -> None:
    noise = torch.randn(2, LATENTS, 6, generator=seeded(5))
    assert torch.equal(sample_flow(model, some_tokens(2), 2, 1.0, seed=5), noise)
    assert torch.equal(sample_flow(model, some_tokens(2), 2, 0.5, seed=5), 0.5 * noise)


def test_the_losses_are_errors_of_the_velocity(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    """Of a network that predicts none, the error is e - r, at any time; residuals have unit variance."""
    estimates = fitted(model, data, linear)
    residuals = data.anchors - model.encoder.latents(estimates)
    residuals = residuals / residual_scale(residuals)
    lengths = Judge(linear, torch.arange(10)).metric(residuals)
    assert float((residuals.flatten(1) @ lengths).square().mean()) == pytest.approx(1, rel=1e-3)
    losses = flow_loss(model, some_tokens(PEOPLE), residuals, lengths, seeded(4))
    assert float(losses["flow"].detach()) == pytest.approx(2, rel=0.05)
    noise = float((torch.randn(1000, LATENTS * 6, generator=seeded(8)) @ lengths).square().mean())
    assert float(losses["vertices"].detach()) == pytest.approx(1 + noise, rel=0.2)


def test_the_face_counts_as_much_as_the_whole_head(data: Data, linear: LinearDecoder) -> None:
    """By the decoder's own vertices; what a similarity of the face would undo is no error of it."""
    moves = torch.randn(6, LATENTS, 6, generator=seeded(9))
    face = torch.arange(10)
    lengths = Judge(linear, face).metric(moves)
    moved = linear(moves) - linear.mean
    whole = moved.square().sum((1, 2))
    inner = without_similarity(moved[:, face], linear.mean[face]).square().sum((1, 2))
    want = whole / whole.sum() + inner / inner.sum()
    got = (moves.flatten(1) @ lengths).square().sum(1)
    assert torch.allclose(got / got.sum(), want / want.sum(), rtol=1e-3)


def test_a_small_similarity_moves_nothing_of_a_face() -> None:
    points = torch.randn(9, 3, generator=seeded(2))
    turn = torch.linalg.matrix_exp(1e-4 * torch.tensor([[0.0, -3, 2], [3, 0, -1], [-2, 1, 0]]))
    moves = 1.0002 * points @ turn.T + torch.tensor([1e-4, 0, 2e-4]) - points
    assert float(without_similarity(moves[None], points).abs().max()) < 1e-6 < float(moves.abs().max())
    one = torch.zeros(1, 9, 3)
    one[0, 3, 1] = 0.1
    left = without_similarity(one, points)
    assert torch.allclose(without_similarity(left, points), left, atol=1e-6) and float(left[0, 3, 1]) > 0.01


def test_the_network_is_what_sampling_integrates(model: FlowModel) -> None:
    """A constant velocity c leads from e to e - c."""
    bias = model.dit.out_layer.bias
    with torch.no_grad():
        bias.fill_(0.25)
        got = sample_flow(model, some_tokens(1), 3, 1.0, seed=5)
        bias.zero_()
    start = torch.randn(1, LATENTS, 6, generator=seeded(5))
    assert torch.allclose(got, start - 0.25, atol=1e-5)


def test_times_favour_noise_and_end_at_it() -> None:
    times = draw_times(20_000, seeded())
    assert float(times.min()) > 0
    assert float(times.max()) == 1
    assert float((times == 1).float().mean()) == pytest.approx(PURE_NOISE_SHARE, abs=0.02)
    assert float(times[times < 1].median()) > 0.7


def test_parts_are_dropped_as_often_as_the_table_says() -> None:
    count = 2000
    seen = type(some_evidence(torch.zeros(1, 3)))(*(torch.ones(count, *shape) for shape in SHAPES.values()))
    batch = Batch(
        torch.ones(count, 2, 3), seen, torch.ones(count, 3), torch.ones(count, 3), torch.zeros(count, 2, 6)
    )
    got = damaged(batch, seeded())
    for name, part in zip((*SHAPES, "image", "estimate"), (*got.seen, got.image, got.estimate), strict=True):
        gone = (part.flatten(1) == 0).all(1)
        assert float(gone.float().mean()) == pytest.approx(DROPPED[name], abs=0.03), name
        assert bool((part[~gone] != 0).all())  # whole pictures lose a part, never pieces of it
    assert torch.equal(got.anchors, batch.anchors) and torch.equal(got.known, batch.known)
    assert not torch.equal(got.estimate, batch.estimate)


def test_pictures_are_mixed_as_a_whole(data: Data) -> None:
    """Evidence, image and head of a mixed picture are the same mixture of those of two people."""
    batch = data.rows(torch.arange(PEOPLE), data.anchors.flatten(1)[:, :3])
    got = mixed(batch, seeded())
    same = (got.anchors == batch.anchors).flatten(1).all(1)
    assert float(same.float().mean()) == pytest.approx(1 - MIXED_SHARE, abs=0.25)

    # In this world landmarks are linear in the estimate, so mixtures lie on the same map.
    def map_of(some: Batch) -> Tensor:
        x = torch.cat([some.estimate, torch.ones(PEOPLE, 1)], 1)
        return torch.linalg.lstsq(x, some.anchors.flatten(1)).solution

    assert torch.allclose(map_of(batch), map_of(got), atol=1e-3)


def test_what_sees_pictures_does_not_train(model: FlowModel) -> None:
    model.train()
    for part in (model.encoder.encoder, model.encoder.trunk, model.encoder.evidence_estimate):
        assert not any(p.requires_grad for p in part.parameters())
    assert all(p.requires_grad for p in model.encoder.blocks.parameters())
    model.eval()


def test_the_image_s_tokens_pass_an_untrained_encoder(
    model: FlowModel, data: Data, linear: LinearDecoder
) -> None:
    fitted(model, data, linear)
    batch = data.rows(torch.arange(3), torch.zeros(PEOPLE, 3))
    with torch.no_grad():
        tokens = model.encoder.fuse(batch.image, batch.seen, batch.estimate)
    wanted = torch.nn.functional.layer_norm(batch.image, batch.image.shape[-1:])
    assert torch.allclose(tokens[:, : batch.image.shape[1]], wanted, atol=1e-5)


def test_the_judge_s_numbers_are_the_errors(data: Data, linear: LinearDecoder) -> None:
    """Heads that are linear in their anchors have no error, and a face that is only moved has none either."""
    judge = Judge(linear, torch.arange(10))
    whole, face = judge.millimetres(data.anchors, data.positions, data.radii)
    assert whole < 0.01 and face < 0.01
    moved = data.positions * 1.1 + 0.2
    whole, face = judge.millimetres(data.anchors, moved, data.radii)
    assert whole > 10 and face < 0.01


def test_a_linear_world_is_estimated(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    fitted(model, data, linear)
    metrics = evaluate(model, data, Judge(linear, torch.arange(10)), 0.5)
    assert metrics["mm_linear_floor"] < 0.01
    assert metrics["mm_estimate"] < 0.5 * metrics["mm_mean_head"]
    assert metrics["mm_face_estimate"] < 0.5 * metrics["mm_face_mean_head"]


def test_the_lesson_has_the_estimate_s_directions(
    model: FlowModel, data: Data, linear: LinearDecoder
) -> None:
    fitted(model, data, linear)
    lesson = model.lesson
    assert torch.allclose(lesson.components @ lesson.components.T, torch.eye(3), atol=1e-4)
    assert torch.allclose(lesson.deviation[:, None] * lesson.components, model.encoder.evidence_latents)
