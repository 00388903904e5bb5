"""Each part of the evidence alone: what tells all, what tells nothing, and the columns that are taken."""

from __future__ import annotations

import dataclasses

import torch

from models.evidence import SHAPES
from tests.training.test_train_flow import VERTICES, data, fitted, linear, model, small_networks
from training.ablations import SETS, columns, measure
from training.evidence import regressors
from training.judge import Judge
from training.linear_decoder import LinearDecoder
from training.train_flow import Data, FlowModel

__all__ = ["data", "linear", "model", "small_networks"]  # fixtures


def blind(data: Data, seed: int) -> Data:
    """Return the same people with the expression of nobody in particular."""
    noise = torch.randn(data.seen.expression.shape, generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(data, seen=data.seen._replace(expression=noise))


def asked(model: FlowModel, data: Data) -> torch.Tensor:
    return regressors(model.encoder, data.image, data.seen)


def test_columns_are_those_of_the_parts(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    fitted(model, data, linear)
    parts = columns(model.encoder)
    x = asked(model, data)
    assert sum(map(len, parts.values())) == x.shape[1] == model.encoder.evidence_estimate.weight.shape[1]
    for name in (*SHAPES, "image"):
        if name == "image":
            changed = dataclasses.replace(data, image=data.image + 1)
        else:
            seen = data.seen._replace(**{name: getattr(data.seen, name) * 1.5})
            changed = dataclasses.replace(data, seen=seen)
        moved = (asked(model, changed) - x).abs().amax(0).nonzero().flatten()
        assert set(moved.tolist()) <= set(parts[name].tolist()) and len(moved), name


def test_parts_that_tell_nothing_help_nothing(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    training, held_out = blind(data, 0), blind(data, 1)
    fitted(model, training, linear)
    judge = Judge(linear, torch.arange(VERTICES))
    result = measure(model.encoder, training, held_out, judge)
    assert set(result["known"]) == set(SETS)
    mean = result["mean_head"]["face_mm"]
    assert result["known"]["landmarks, pose"]["face_mm"] < 0.5 * mean
    assert result["known"]["features"]["face_mm"] < 0.5 * mean
    assert result["known"]["image"]["face_mm"] > 0.5 * mean
    assert list(result["all_by_pictures"]) == [5, 10, 20, 40]
