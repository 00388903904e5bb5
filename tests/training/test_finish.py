"""A run on small networks is finished, exported without `training/`, and answers as the networks do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from export import mini
from export.__main__ import main
from export.bundle_writer import round_to_half
from models import TOPOSVAE, TOPOSDiT
from models import mini as sizes
from models.evidence import NAMES
from models.finished_run import HEADS, HIERARCHY, RIG, TOPOLOGY, FinishedRun
from tests.training.evidence import some_evidence
from tests.training.synthetic import BONES, egg
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.head.rig import plain_names
from topos_rt.model.bundle import Bundle
from training import earlier, vae_data
from training.finish import finished
from training.heads import normalise
from training.linear_decoder import fit
from training.train_flow import SIGMA_MIN, FlowModel
from training.train_vae import build
from training.vae_data import VAEData
from training.variation import EstimateErrors

LATENTS = 183  # nodes of the egg's hierarchy at the level that the decoder starts from
RANK = 4
SMALL: dict[str, dict[str, Any]] = {
    "VAE": {
        "width": 32,
        "num_encoder_layers": 1,
        "decoder_channel": (32, 32, 32, 32, 32),
        "linear_rank": RANK,
    },
    "DIT": {
        "num_latents": LATENTS,
        "model_channels": 32,
        "cond_channels": 32,
        "num_blocks": 2,
        "num_heads": 2,
    },
    "IMAGE_ENCODER": {"embed_dim": 32, "depth": 1, "num_heads": 2, "stem_channels": (8, 8, 8)},
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
        patch.setattr(sizes, "NUM_LATENTS", LATENTS)
        patch.setattr(vae_data, "HELD_OUT_HEADS", 4)
        for name, values in SMALL.items():
            for key, value in values.items():
                patch.setitem(getattr(sizes, name), key, value)
        yield


@pytest.fixture(scope="module")
def data(small_networks: None) -> VAEData:
    return VAEData(egg(), heads=60)


@pytest.fixture(scope="module")
def networks(data: VAEData) -> tuple[TOPOSVAE, FlowModel]:
    """Both networks as training starts them, with noise where they start at zero."""
    torch.manual_seed(0)
    vae, flow = build(egg(), data), FlowModel()
    fit(data, RANK).into(vae)
    with torch.no_grad():
        for value in (
            *(p for p in vae.parameters() if p.requires_grad),
            *flow.parameters(),
            flow.encoder.evidence_latents,
            *flow.encoder.evidence_scales.buffers(),
            *flow.encoder.evidence_estimate.buffers(),
        ):
            value.add_(0.02 * torch.randn_like(value))
    return vae.eval(), flow.eval()


def residuals() -> Tensor:
    """What linear estimates might be off by."""
    return torch.randn(50, LATENTS, 6, generator=torch.Generator().manual_seed(8))


def errors() -> EstimateErrors:
    return EstimateErrors.of(residuals(), torch.arange(LATENTS) % 2 == 0)


@pytest.fixture(scope="module")
def run(networks: tuple[TOPOSVAE, FlowModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    for name, network in zip(("vae", "flow"), networks, strict=True):
        torch.save({"average": network.state_dict(), "step": 1}, directory / f"{name}.pt")
    finished(egg(), errors()).save(directory)
    return directory


@pytest.fixture(scope="module")
def rounded(run: Path, networks: tuple[TOPOSVAE, FlowModel]) -> tuple[TOPOSVAE, FlowModel]:
    """The networks, now that they are saved, with weights as bundles store them."""
    round_to_half(networks[0], networks[1].encoder)
    return networks


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "mini"
    options = [
        "--guidance",
        "0.5",
        "--temperature",
        "0.25",
        "--open-temperature",
        "0.75",
        "--flow-share",
        "0.5",
    ]
    assert main(["mini", "--checkpoint", str(run), "--out", str(out), *options]) == 0
    return Bundle.open(out)


def answers(bundle: Bundle, graph: str, **inputs: Tensor) -> list[np.ndarray]:
    with load(bundle.graph(graph), EngineOptions(1)) as engine:
        return list(engine.run({name: value.numpy() for name, value in inputs.items()}).values())


def close(got: np.ndarray, want: Tensor) -> bool:
    return bool(np.linalg.norm(got - want.numpy()) <= 1e-5 * np.linalg.norm(want.numpy()))


@torch.no_grad()
def test_the_bundle_decodes_as_the_trained_vae_does(
    bundle: Bundle, data: VAEData, rounded: tuple[TOPOSVAE, FlowModel]
) -> None:
    basis = rounded[0].latent_basis
    latent = torch.randn(1, LATENTS, 6, generator=torch.Generator().manual_seed(1))
    (got,) = answers(bundle, "vae_decoder", latent=latent)
    assert close(got, rounded[0].decode(latent))
    # Only what the basis spans counts.
    projected = (latent.flatten(1) @ basis.T @ basis).view_as(latent)
    (again,) = answers(bundle, "vae_decoder", latent=projected)
    assert float((projected - latent).norm()) > 0.5 * float(latent.norm())
    assert np.abs(again - got).max() <= 1e-4


@torch.no_grad()
def test_the_bundle_answers_as_the_trained_flow_does(
    bundle: Bundle, rounded: tuple[TOPOSVAE, FlowModel]
) -> None:
    flow = rounded[1]
    pixels = nn.functional.interpolate(torch.rand(1, 3, 8, 8), sizes.IMAGE_SIZE, mode="bilinear")
    seen = some_evidence(torch.randn(1, 3, generator=torch.Generator().manual_seed(2)))
    given = {name: getattr(seen, name) for name in NAMES[:3]} | {"aligned": torch.rand(1, 150, 150, 3)}
    tokens, estimate = answers(bundle, "image_encoder", pixels=pixels, **given)
    for got, wanted in zip((tokens, estimate), flow.encoder(pixels, *given.values()), strict=True):
        assert close(got, wanted)
    keys, values = answers(bundle, "dit_context", tokens=torch.from_numpy(tokens))
    (modulation,) = answers(bundle, "dit_modulation", time=torch.tensor([0.6]))
    latent = torch.randn(1, LATENTS, 6)
    parts = {"modulation": modulation, "keys": keys, "values": values}
    state = {name: torch.from_numpy(array) for name, array in parts.items()}
    (velocity,) = answers(bundle, "dit_step", latent=latent, **state)
    want = flow.dit(latent, torch.tensor([600.0]), torch.from_numpy(tokens))
    assert np.linalg.norm(velocity - want.numpy()) <= 5e-3 * float(want.norm())  # rounded after folding


def test_the_bundle_holds_what_the_run_says(bundle: Bundle, data: VAEData) -> None:
    flow, radius = bundle.manifest.flow, normalise(egg().sample(2000, vae_data.TRAIN_SEED))[1].mean()
    assert (flow.sigma_min, flow.guidance, flow.temperature) == (SIGMA_MIN, 0.5, 0.25)
    assert bundle.manifest.frame.radius_m == pytest.approx(float(radius), abs=5e-5)
    assert bundle.manifest.evidence == NAMES
    scale = float(residuals().square().mean().sqrt())
    assert bundle.manifest.residual_scale == pytest.approx(0.5 * scale, abs=1e-4)
    assert bundle.variation is not None and bundle.variation.open_temperature == 0.75
    assert bundle.rig is not None and bundle.rig.joint_names == plain_names(BONES)
    assert np.array_equal(bundle.topology.polygon_vertices, egg().topology.polygon_vertices)
    triangles = [len(egg().topology.triangles), *(len(lod.triangles) for lod in bundle.topology.lods)]
    assert len(triangles) == 3 and triangles == sorted(triangles, reverse=True)
    for got, want in zip(bundle.hierarchy.levels, egg().hierarchy.levels, strict=True):
        assert np.array_equal(got.features, want.features) and np.array_equal(got.edges, want.edges)


@torch.no_grad()
def test_a_bundle_gives_its_transformer_back(bundle: Bundle, rounded: tuple[TOPOSVAE, FlowModel]) -> None:
    """The one that `training.earlier` makes of the folded graphs is the same function."""
    again = TOPOSDiT(**sizes.DIT)
    again.load_state_dict(earlier.dit(bundle.path))
    latent, tokens = torch.randn(1, LATENTS, 6), torch.randn(1, 9, sizes.DIT["cond_channels"])
    time = torch.tensor([300.0])
    want = rounded[1].dit(latent, time, tokens)
    assert float((again(latent, time, tokens) - want).norm()) <= 5e-3 * float(want.norm())


@torch.no_grad()
def test_a_bundle_gives_its_vae_back(
    bundle: Bundle, data: VAEData, rounded: tuple[TOPOSVAE, FlowModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier.HeadModel, "load", egg)
    monkeypatch.setattr(earlier, "VAEData", lambda _: data)
    again = build(egg(), data)
    again.load_state_dict(earlier.vae(bundle.path))
    points = data.geometry.sample_surface(data.positions[:1], 64, torch.Generator().manual_seed(0))
    for got, want in zip(again.encode(points), rounded[0].encode(points), strict=True):
        assert torch.allclose(got, want, atol=1e-4)
    latent = torch.randn(1, LATENTS, 6)
    assert torch.allclose(again.decode(latent), rounded[0].decode(latent), atol=1e-4)


def test_a_run_comes_back_as_it_was_saved(run: Path, data: VAEData) -> None:
    opened, made = FinishedRun.open(run), finished(egg(), errors())
    assert (opened.radius_m, opened.sigma_min, opened.residual_scale) == (
        made.radius_m,
        made.sigma_min,
        made.residual_scale,
    )
    for name in ("shown", "variation"):
        assert np.array_equal(getattr(opened, name), getattr(made, name)), name


@pytest.fixture
def own_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that a test may damage; nothing may come of it."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work before the files were checked")

    monkeypatch.setattr(mini, "with_lods", work)
    monkeypatch.setattr(mini, "write_bundle", work)
    return Path(shutil.copytree(run, tmp_path / "run"))


def refusal(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    out = directory.parent / "bundle"
    assert main(["mini", "--checkpoint", str(directory), "--out", str(out)]) == 2
    assert not out.exists()
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and "; fix: " in text
    return text


@pytest.mark.parametrize("name", [TOPOLOGY, HIERARCHY, RIG, HEADS])
@pytest.mark.parametrize("content", [None, b"", b"half a file of something else"])
def test_a_missing_or_damaged_file_is_named(
    name: str, content: bytes | None, own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (own_run / name).unlink()
    else:
        (own_run / name).write_bytes(content)
    text = refusal(own_run, capsys)
    assert name in text and f"fix: run python -m training.finish --out {own_run}" in text


@pytest.mark.parametrize("name", ["vae.pt", "flow.pt"])
@pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all"])
def test_a_missing_or_damaged_checkpoint_is_named(
    name: str, content: bytes | None, own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_run / name).unlink()
    if content is not None:
        (own_run / name).write_bytes(content)
    assert f"error: checkpoint {own_run / name}: got " in refusal(own_run, capsys)


MISFITS = {
    "shown": (lambda array: array[:, :-1], "shape of the shown heads"),
    "variation": (lambda array: array[:, :-1], "shape of the variation"),
    "radius_m": (lambda array: -array, "numbers of the run"),
    "sigma_min": (lambda array: array.reshape(1), "arrays of dimensions"),
    "residual_scale": (lambda array: 0 * array, "numbers of the run"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_numbers_of_other_runs_are_refused(
    name: str, own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, (change, told) = load_file(own_run / HEADS), MISFITS[name]
    save_file(arrays | {name: np.array(change(arrays[name]), order="C")}, own_run / HEADS)
    assert told in refusal(own_run, capsys)


def test_one_file_in_the_place_of_another_is_refused(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(own_run / TOPOLOGY, own_run / RIG)
    assert f"error: {own_run / RIG}: got " in refusal(own_run, capsys)


def test_the_checkpoint_of_other_networks_is_refused(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(own_run / "vae.pt", own_run / "flow.pt")
    text = refusal(own_run, capsys)
    assert f"error: checkpoint {own_run / 'flow.pt'}: keys: got " in text and "missing" in text
    torch.save({"epoch": 3}, own_run / "vae.pt")
    assert "got a file without averaged weights" in refusal(own_run, capsys)


def test_a_directory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "got no such directory" in refusal(tmp_path / "run", capsys)
