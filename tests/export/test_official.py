"""`python -m export official` turns small models in the release's formats into heads."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from export import random
from export.__main__ import main
from export.generated import generate
from export.release.config import ReleaseConfig
from export.release.official import _encoder_shape
from models import TOPOSVAE, ImageEncoder, TOPOSDiT
from tests.export.release_files import (
    DATA,
    Release,
    Sizes,
    ball_topology,
    write_fixture_release,
    write_release,
)
from topos_rt import HeadPipeline
from topos_rt.flow.sampling import noise
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import network_cloud
from topos_rt.pictures.image import load_image
from topos_rt.scan.points import boxed, checked_points, random_subset

pytestmark = pytest.mark.usefixtures("whole_pictures")

PORTRAIT = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


def relative_rms(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(np.float64(got) - want) / np.linalg.norm(np.float64(want)))


@pytest.fixture(scope="module")
def fixture_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write_fixture_release(tmp_path_factory.mktemp("fixture") / "release")


@pytest.fixture(scope="module")
def bundle(fixture_release: Release) -> Bundle:
    """The official modules' weights go through the whole export."""
    out = fixture_release.folder.parent / "bundle"
    assert main([*fixture_release.arguments, "--out", str(out)]) == 0
    return Bundle.open(out)


@pytest.fixture(scope="module")
def pipe(bundle: Bundle) -> HeadPipeline:
    return HeadPipeline.open(bundle, backend="onnxruntime", threads=1)


def test_graphs_give_what_the_official_modules_give(pipe: HeadPipeline) -> None:
    io = {name: tensor.numpy() for name, tensor in load_file(DATA / "vae_io_strong.safetensors").items()}
    assert relative_rms(pipe._networks.decode(io["latent"][None]), io["decoded"]) <= 3e-6
    mean, logvar = pipe._networks.encode_points(io["pointcloud"][:1])
    assert relative_rms(mean, io["mean"][:1]) <= 3e-6
    assert relative_rms(logvar, io["logvar"][:1]) <= 3e-6


def test_bundle_says_where_it_is_from(bundle: Bundle, fixture_release: Release) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.weights.kind) == ("official", "official")
    assert "2605.14594" in manifest.weights.origin and "MIT" in manifest.weights.licence
    assert (manifest.image.height, manifest.image.tokens, manifest.image.channels) == (518, 1374, 64)
    assert (manifest.latent.tokens, manifest.latent.channels) == (720, 8)
    assert (manifest.flow.sigma_min, manifest.flow.guidance) == (1e-5, 3.0)
    provenance = json.loads((bundle.path / "provenance.json").read_text())
    vae = provenance["inputs"]["vae"]
    assert vae["file"] == "TOPOS-VAE.model.pth" and len(vae["sha256"]) == 64
    assert "topology/cluster.npz" in provenance["inputs"]
    assert str(fixture_release.folder) not in (bundle.path / "provenance.json").read_text()
    assert "HUJING" in (bundle.path / "LICENSE-TOPOS.txt").read_text()


def test_quads_and_uvs_are_kept(bundle: Bundle) -> None:
    assert np.bincount(bundle.topology.polygon_sizes).tolist() == [0, 0, 0, 110, 809]
    assert bundle.topology.has_uvs
    lines = (DATA / "topology/template.obj").read_text().splitlines()
    assert len(bundle.topology.uvs) == sum(line.startswith("vt ") for line in lines)


def test_hierarchy_is_pooled_with_the_users_clusters(bundle: Bundle) -> None:
    clusters = np.load(DATA / "topology/cluster.npz")
    assert len(bundle.hierarchy.levels) == 9
    for i in range(1, 9):
        assert np.array_equal(bundle.hierarchy.levels[i].cluster, clusters[f"depth{i}"])


def test_portrait_to_head(pipe: HeadPipeline, tmp_path: Path) -> None:
    head = pipe(PORTRAIT, steps=2, seed=3)
    assert head.positions.shape == (866, 3)
    assert head.metadata["weights"] == pipe.bundle.manifest.weights.origin
    head.save(tmp_path / "head.obj")
    faces = [line for line in (tmp_path / "head.obj").read_text().splitlines() if line.startswith("f ")]
    assert {len(face.split()) - 1 for face in faces} == {3, 4}


def test_posterior_mean_by_default_and_samples_on_request(pipe: HeadPipeline) -> None:
    io = load_file(DATA / "vae_io_strong.safetensors")
    points, normals = io["pointcloud"][0, :, :3].numpy(), io["pointcloud"][0, :, 3:].numpy()
    mean, first, again, second = (
        pipe.retopologize(points, normals, seed=s, passes=1).positions for s in (None, 1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, second) and not np.allclose(first, mean)
    assert np.array_equal(mean, pipe.retopologize(points, normals, passes=1).positions)
    # The sample is mean + deviation * noise, as the release draws it, with our noise.
    manifest = pipe.bundle.manifest
    scan, placement = checked_points(points, normals), boxed(points)
    chosen, directions = random_subset(*scan, manifest.points.count)
    unit = (chosen - placement.shift) / placement.scale
    cloud = network_cloud(unit, directions, manifest.frame)
    centre, logvar = pipe._networks.encode_points(cloud)
    latent = centre + np.exp(logvar / 2) * noise(1, centre.shape)
    vertices = pipe._networks.decode(latent)[:, :3] @ manifest.frame.rotation.T
    want = vertices * np.float32(placement.scale) + placement.shift
    assert relative_rms(first, want) <= 1e-5


VARIANTS = {
    "one stage, triangles": (Sizes(decoder_blocks=(2,), decoder_channel=(16, 8), depth=4), (3,)),
    "two stages, n-gons": (Sizes(decoder_blocks=(1, 2), decoder_channel=(8, 16, 8), depth=3), (6, 4, 3)),
    "five stages, quads": (
        Sizes(decoder_blocks=(1,) * 5, decoder_channel=(16, 16, 16, 8, 8, 8), depth=7, code_channel=6), (4,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_sizes(variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes, corners = VARIANTS[variant]
    release = write_release(tmp_path / "release", sizes, ball_topology(10, 12, corners))
    assert main([*release.arguments, "--out", str(tmp_path / "bundle")]) == 0
    assert "MB" in capsys.readouterr().out
    with HeadPipeline.open(tmp_path / "bundle", threads=1) as pipe:
        assert set(np.unique(pipe.bundle.topology.polygon_sizes)) >= {min(corners), max(corners)}
        head = pipe(PORTRAIT, steps=1)
        latent = noise(5, (1, pipe.bundle.manifest.latent.tokens, sizes.code_channel))
        with torch.no_grad():
            want = release.vae.decode(torch.from_numpy(latent))[0].numpy()
        assert relative_rms(pipe._networks.decode(latent), want) <= 1e-5
    assert len(head.positions) == release.topology.num_vertices
    assert pipe.bundle.manifest.frame.radius_m == pytest.approx(0.07, rel=1e-3)


class Bare(NamedTuple):
    """A release whose mesh has no UVs, and its bundle in FP32; the image encoder is read beside the DiT."""

    release: Release
    arguments: list[str]
    bundle: Path
    told: str


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    sizes = Sizes(decoder_blocks=(1,), decoder_channel=(16, 8), depth=4)
    release = write_release(folder / "release", sizes)
    obj = release.file("template.obj")
    lines = [line for line in obj.read_text().splitlines() if not line.startswith("vt ")]
    bare = [" ".join(c.split("/")[0] for c in line.split()) if line[0] == "f" else line for line in lines]
    obj.write_text("\n".join(bare))
    arguments = release.arguments
    at = arguments.index("--image-encoder")
    del arguments[at : at + 2]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert main([*arguments, "--out", str(folder / "fp32")]) == 0
    return Bare(release, arguments, folder / "fp32", told.getvalue())


def test_mesh_without_uvs_and_encoder_beside_the_dit(bare: Bare) -> None:
    assert "has no UVs" in bare.told
    assert not Bundle.open(bare.bundle).topology.has_uvs


def test_half_precision_stores_half(bare: Bare, tmp_path: Path) -> None:
    assert main([*bare.arguments, "--out", str(tmp_path / "fp16"), "--precision", "fp16"]) == 0
    half, whole = ((path / "weights.safetensors").stat().st_size for path in (tmp_path / "fp16", bare.bundle))
    assert half < 0.6 * whole
    assert "FP16" in Bundle.open(tmp_path / "fp16").manifest.description
    latent = noise(5, (1, len(bare.release.hierarchy.levels[1].features), 4))
    with torch.no_grad():
        want = bare.release.vae.decode(torch.from_numpy(latent))[0].numpy()
    with HeadPipeline.open(tmp_path / "fp16", threads=1) as pipe:
        assert 1e-6 < relative_rms(pipe._networks.decode(latent), want) <= 1e-2


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_are_prepared_as_in_the_release(mode: str) -> None:
    """Square pictures are read alike; the release squeezes others, as a caller can (docs/official.md)."""
    raw = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 70, len(mode)), np.uint8))
    if mode == "RGBA":
        squeezed = raw.resize((518, 518), Image.Resampling.BILINEAR)
        values = np.asarray(squeezed, np.float32) / np.float32(255)
        want = values[..., :3] * values[..., 3:]
    else:
        squeezed = raw.resize((518, 518), Image.Resampling.LANCZOS)
        want = np.asarray(squeezed, np.float32) / np.float32(255)
    assert np.array_equal(load_image(np.asarray(squeezed), 518, 518)[0], want.transpose(2, 0, 1))
    square = raw.crop((0, 10, 70, 80))
    filtering = Image.Resampling.BILINEAR if mode == "RGBA" else Image.Resampling.LANCZOS
    values = np.asarray(square.resize((518, 518), filtering), np.float32) / np.float32(255)
    want = values[..., :3] * values[..., 3:] if mode == "RGBA" else values
    assert np.array_equal(load_image(square, 518, 518)[0], want.transpose(2, 0, 1))


def test_released_configuration_gives_every_released_key_and_shape() -> None:
    """The generated head has the released size; nothing of the large networks is allocated."""
    keys = json.loads((DATA / "official_keys.json").read_text())
    config = ReleaseConfig.load(None)
    with torch.device("meta"):
        dit = TOPOSDiT(**config.dit)
        released = {name: torch.empty(shape) for name, shape in keys["DINOv2-ViT-L/14-reg4"].items()}
        encoder = ImageEncoder(**_encoder_shape(released))
    vae = TOPOSVAE(generate(random.official().recipe).hierarchy, **config.vae)
    for name, network in (("TOPOS-DiT", dit), ("TOPOS-VAE", vae), ("DINOv2-ViT-L/14-reg4", encoder)):
        assert {k: list(v.shape) for k, v in network.state_dict().items()} == keys[name]
    assert encoder.blocks[0].attn.heads == 16
