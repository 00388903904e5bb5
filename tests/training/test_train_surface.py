"""The reader of surface points: what it looks at, what its numbers mean, and that it learns to find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.face_trunk import FaceTrunk
from models.surface_reader import SurfaceReader, sampled
from tests.training.test_train_flow import PEOPLE, linear, small_networks
from tests.training.test_train_flow import data as flow_data
from tests.training.test_tune_encoder import Offsets, data
from training import train_surface
from training.augment import moved_places, random_maps
from training.judge import Judge
from training.linear_decoder import LinearDecoder
from training.loop import Budget, train
from training.train_surface import ENDS, NEW, Pictures, Reading, judged, pixels_off, start
from training.tune_encoder import Data, Lesson, begin

__all__ = ["data", "flow_data", "linear", "small_networks"]  # fixtures

POINTS, COORDINATES = 10, 6
MIRRORED = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6, 8, 9])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def reader() -> SurfaceReader:
    reader = SurfaceReader(7, POINTS, COORDINATES, channels=8)
    spread = torch.randn(COORDINATES, POINTS * 3, generator=seeded(1)) * 0.1
    reader.fit((torch.randn(200, COORDINATES, generator=seeded(2)) @ spread).view(200, POINTS, 3))
    return reader


def test_features_are_read_between_cells() -> None:
    maps = torch.randn(2, 5, 7, 9, generator=seeded(0))
    places = 2.4 * torch.rand(2, 30, 2, generator=seeded(1)) - 1.2  # some lie beyond the map
    want = F.grid_sample(maps, places[:, :, None], padding_mode="border", align_corners=True)
    assert torch.allclose(sampled(maps, places), want[..., 0].transpose(1, 2), atol=1e-5)


def test_coordinates_are_those_of_places(reader: SurfaceReader) -> None:
    at = torch.randn(50, COORDINATES, generator=seeded(3))
    assert torch.allclose(reader.coordinates_of(reader.places(at)), at, atol=1e-4)
    assert reader.share[0] == 1 and bool((reader.share.diff() <= 0).all())


def test_a_new_reader_says_what_its_regression_says(reader: SurfaceReader) -> None:
    """So training goes on from the regression, whatever the maps show."""
    maps = FaceTrunk().maps(torch.rand(2, 3, 150, 150, generator=seeded(4)))
    about = torch.randn(2, 7, generator=seeded(5))
    first, *later = reader(maps, about).coordinates
    assert torch.equal(first, reader.about(about)) and len(later) == 2
    assert all(torch.equal(first, one) for one in later)


def test_heads_are_linear_in_places_that_turn(reader: SurfaceReader) -> None:
    at, pose = torch.randn(4, COORDINATES), torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.2], [0.3, 0.3]])
    made = reader.regressors(at, pose)
    assert made.shape == (4, 6 * COORDINATES)
    assert bool((made[0, COORDINATES:] == 0).all())
    assert torch.allclose(made[:, :COORDINATES], at * reader.share.sqrt())


def test_places_move_with_their_picture() -> None:
    """A bright spot in a moved picture is where its place was moved to."""
    maps = random_maps(20, seeded(6))
    places = torch.rand(20, 1, 2, generator=seeded(7)) - 0.5
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 64, 64], align_corners=False)[0]
    pictures = torch.exp(-((grid - places[:, :, None]).square().sum(-1)) / 0.02)[:, None]
    sources = F.affine_grid(maps, [20, 1, 64, 64], align_corners=False)
    moved = F.grid_sample(pictures, sources, align_corners=False)[:, 0]
    middle = (moved[..., None] * grid).sum((1, 2)) / moved.sum((1, 2))[:, None]
    assert torch.allclose(middle, moved_places(maps, places)[:, 0], atol=0.03)


def test_depth_counts_for_half() -> None:
    off = torch.tensor([[[0.0, 0.0, 0.0], [0.04, 0.0, 0.0], [0.0, 0.0, 0.04]]])
    exact, across, deep = pixels_off(off, torch.zeros(1, 3, 3))[0].tolist()
    assert exact == train_surface.NEAR_PIXELS
    assert across == pytest.approx((9 + 0.25) ** 0.5) and deep == pytest.approx((2.25 + 0.25) ** 0.5)


@pytest.fixture
def pictures(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Places that the heads' codes tell, in part, and the rest of which the cuts do not tell."""
    monkeypatch.setattr(train_surface, "COORDINATES", COORDINATES)
    monkeypatch.setattr(train_surface, "TURNED", COORDINATES)
    places = 0.1 * data.anchors.flatten(1)[:, : POINTS * 3].view(-1, POINTS, 3)
    image = torch.randn(PEOPLE, 2, 2, 32, generator=seeded(8))
    return Pictures(data, places[data.person], MIRRORED, image)


def test_a_mirror_turns_places_and_cuts(pictures: Pictures) -> None:
    ids = torch.tensor([3, 1])
    own, other = pictures.where(ids, False), pictures.where(ids, True)
    assert torch.equal(other[:, 0, 0], -own[:, 1, 0]) and torch.equal(other[:, 0, 1:], own[:, 1, 1:])
    assert torch.equal(pictures.cuts(ids, True), pictures.cuts(ids, False).flip(-1))


def test_a_run_finds_places_and_heads(
    pictures: Pictures, data: Data, linear: LinearDecoder, tmp_path: Path
) -> None:
    """What was spoiled is mended by training, of which the encoder of evidence keeps what does not see."""
    model = Reading(POINTS)
    begin(model.encoder, data, linear)
    lesson = Lesson.of(model.encoder, data, Offsets(data), linear.mean)  # type: ignore[arg-type]
    everyone, judge = torch.arange(PEOPLE), Judge(linear, torch.arange(10))
    start(model, pictures, lesson, everyone)
    fitted = judged(model.eval(), pictures, judge)
    with torch.no_grad():
        model.encoder.evidence_estimate.weight.mul_(0.2)
        model.surface.about.weight.mul_(0.2)
    spoiled = judged(model, pictures, judge)
    assert fitted["mm"] < 0.5 * spoiled["mm"] and fitted["pixels"] < 0.5 * spoiled["pixels"]
    before = {name: values.clone() for name, values in model.encoder.state_dict().items()}

    def step(done: float) -> tuple[Tensor, dict[str, float]]:
        ids = everyone[torch.randperm(PEOPLE)[:8]]
        read, codes, _ = model(pictures.cuts(ids, False), *train_surface.seen_of(pictures, ids, False))
        off = pixels_off(model.surface.places(read.coordinates[-1]), pictures.where(ids, False)).mean()
        loss = (codes - lesson.codes[0][data.person[ids]]).square().mean() + off
        return loss, {"loss": float(loss.detach())}

    def watch(module: Reading) -> dict[str, Any]:
        return judged(module, pictures, judge)

    budget = Budget(0.15, 3e-4, 1e-4, warmup_steps=1, ema_decay=0.5, new=NEW)
    found = train("surface", model, step, watch, budget, tmp_path, ends=ENDS)
    assert found["mm"] < spoiled["mm"] and found["pixels"] < spoiled["pixels"]
    moved = {n.split(".")[0] for n, v in model.encoder.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"trunk", "evidence_estimate"}
