"""Each part of the evidence alone: what tells all, what tells nothing, and the columns that are taken."""

from __future__ import annotations

import dataclasses

import torch

from models.evidence import NAMES
from tests.training.test_train_flow import VERTICES, data, linear, model, small_networks
from training.ablations import SETS, columns, measure
from training.evidence import regressors
from training.linear_decoder import LinearDecoder
from training.train_flow import Data, FlowModel, Judge, prepare

__all__ = ["data", "linear", "model", "small_networks"]  # fixtures


def blind(data: Data, seed: int) -> Data:
    """Return the same people with the identity embedding of nobody in particular."""
    noise = torch.randn(data.evidence.seen.identity.shape, generator=torch.Generator().manual_seed(seed))
    seen = data.evidence.seen._replace(identity=noise)
    return dataclasses.replace(data, evidence=dataclasses.replace(data.evidence, seen=seen))


def asked(model: FlowModel, data: Data) -> torch.Tensor:
    return regressors(model.encoder, data.image, data.evidence.seen)


def test_columns_are_those_of_the_parts(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    prepare(model, data, linear.basis)
    parts = columns(model)
    x = asked(model, data)
    assert sum(map(len, parts.values())) == x.shape[1] == model.encoder.evidence_estimate.weight.shape[1]
    for name in (*NAMES, "image"):
        if name == "image":
            changed = dataclasses.replace(data, image=data.image + 1)
        else:
            seen = data.evidence.seen._replace(**{name: getattr(data.evidence.seen, name) * 1.5})
            changed = dataclasses.replace(data, evidence=dataclasses.replace(data.evidence, seen=seen))
        moved = (asked(model, changed) - x).abs().amax(0).nonzero().flatten()
        assert set(moved.tolist()) <= set(parts[name].tolist()) and len(moved), name


def test_parts_that_tell_nothing_help_nothing(model: FlowModel, data: Data, linear: LinearDecoder) -> None:
    training, held_out = blind(data, 0), blind(data, 1)
    prepare(model, training, linear.basis)
    judge = Judge(linear, torch.arange(VERTICES))
    result = measure(model, training, held_out, judge)
    assert set(result["known"]) == set(SETS)
    mean = result["mean_head"]["face_mm"]
    assert result["known"]["landmarks, pose"]["face_mm"] < 0.5 * mean
    assert result["known"]["features"]["face_mm"] < 0.5 * mean
    assert result["known"]["identity"]["face_mm"] > 0.5 * mean
    assert list(result["all_by_pictures"]) == [5, 10, 20, 40]
