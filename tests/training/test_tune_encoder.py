"""The trunk against the recognition network it comes from, and training of what sees pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import mini as config
from models.face_trunk import FaceTrunk, recognition_weights
from tests.training.test_train_flow import LATENTS, PEOPLE, VERTICES, linear, small_networks
from tests.training.test_train_flow import data as flow_data
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.faces.bundle import FaceBundle
from training.evidence import Evidence
from training.judge import Judge
from training.linear_decoder import LinearDecoder
from training.loop import Budget, load_weights, train
from training.train_flow import Data as FlowData
from training.train_flow import FlowModel
from training.tune_encoder import ENDS, Data, Lesson, TunedEncoder, begin, judged, refit

__all__ = ["flow_data", "linear", "small_networks"]  # fixtures


@pytest.fixture(scope="module")
def data(flow_data: FlowData) -> Data:
    """The people of the flow's tests, with pictures that tell nothing."""
    rng = np.random.default_rng(0)
    seen = flow_data.seen
    crops = rng.integers(0, 255, (PEOPLE, 32, 32, 3), np.uint8)
    aligned = rng.integers(0, 255, (PEOPLE, 150, 150, 3), np.uint8)
    evidence = Evidence(
        seen.landmarks, seen.pose, seen.expression, crops, aligned, np.arange(PEOPLE),
        flow_data.positions.numpy(), 0,
    )  # fmt: skip
    return Data(evidence, flow_data.person, flow_data.anchors, flow_data.positions, flow_data.radii)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def test_the_trunk_is_the_recognition_network_s() -> None:
    graph = FaceBundle.open().graph("face_identity")
    trunk = FaceTrunk()
    trunk.load_state_dict(recognition_weights(graph))
    pixels = np.random.default_rng(0).random((1, 150, 150, 3), np.float32)
    with load(graph, EngineOptions(1)) as engine, torch.no_grad():
        want = engine.run({"pixels": pixels})["features"]
        got = trunk(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    assert np.abs(got - want).max() < 1e-4 < np.abs(want).max()


def test_only_what_sees_pictures_and_the_estimate_learn() -> None:
    model = TunedEncoder().train()
    learning = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"encoder", "trunk", "evidence_estimate"}


class Offsets:
    """In place of `NodeOffsets`: people of this world are as symmetric as can be."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def of_many(self, positions: Tensor) -> Tensor:
        return self.data.anchors


def test_a_run_lowers_the_error_and_gives_the_flow_its_encoder(
    data: Data, linear: LinearDecoder, tmp_path: Path
) -> None:
    """In this world the landmarks tell the head, and a regression that was spoiled is mended by training."""
    model = TunedEncoder()
    encoder = model.encoder
    begin(encoder, data, linear)
    lesson = Lesson.of(encoder, data, Offsets(data), linear.mean)  # type: ignore[arg-type]
    refit(model, data, lesson)
    judge, ids = Judge(linear, torch.arange(10)), torch.arange(PEOPLE)
    fitted, _ = judged(model.eval(), data, ids, judge)
    with torch.no_grad():
        encoder.evidence_estimate.weight.mul_(0.2)
    spoiled, _ = judged(model, data, ids, judge)
    assert fitted < 0.5 * spoiled

    def step(done: float) -> tuple[Tensor, dict[str, float]]:
        some = ids[torch.randperm(PEOPLE)[:8]]
        image, features = model.features(data.pictures(some))
        made = encoder.estimate(image, data.seen(some, features))
        loss = (made - lesson.codes[0][some]).square().mean()
        return loss, {"loss": float(loss.detach())}

    def watch(module: TunedEncoder) -> dict[str, float]:
        return {"mm": judged(module, data, ids, judge)[0]}

    budget = Budget(0.1, 3e-4, 1e-4, warmup_steps=1, ema_decay=0.5)
    assert train("encoder", model, step, watch, budget, tmp_path, ends=ENDS)["mm"] < spoiled
    flow = FlowModel()
    load_weights(flow.encoder, tmp_path, "encoder", "encoder.")
    learned = torch.load(tmp_path / "encoder.pt", weights_only=True)["average"]
    assert torch.equal(flow.encoder.trunk.stem.weight, learned["encoder.trunk.stem.weight"])


def test_sizes_of_this_world(data: Data, small_networks: Any) -> None:
    assert data.anchors.shape == (PEOPLE, LATENTS, 6) and data.positions.shape == (PEOPLE, VERTICES, 3)
    assert config.NUM_LATENTS == LATENTS
