"""`python -m export random` puts seeded weights of sensible size on generated heads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export import random
from export.__main__ import main
from export.generated import Recipe, generate
from models.dit import TIME_SCALE
from topos_rt import HeadPipeline
from topos_rt.model.bundle import Bundle
from topos_rt.support.similarity import sphere_frame

pytestmark = pytest.mark.usefixtures("whole_pictures")

PORTRAIT = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
RECIPES = {"official": random.official().recipe, "mini": random.mini().recipe}
SIZES = {"official": (24049, 1513), "mini": (4538, 167)}
SMALL = random.Preset(
    Recipe((8, 6, 8), 42, stages=3, depth=4, width=0.7),
    {
        "code_channels": 4,
        "width": 32,
        "num_encoder_layers": 1,
        "decoder_blocks": [2, 1, 1],
        "decoder_channel": [64, 32, 32, 16],
    },
    {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 64,
        "num_latents": 42,
        "cond_channels": 32,
        "num_blocks": 3,
        "num_heads": 2,
    },
    {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 56},
    image_size=56,
    points=256,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a small preset."""
    out = tmp_path_factory.mktemp("random") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(random.PRESETS, "mini", lambda: SMALL)
        assert main(["random", "--preset", "mini", "--seed", "4", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("name", RECIPES)
def test_generated_heads_have_exactly_the_wanted_sizes(name: str) -> None:
    vertices, latents = SIZES[name]
    recipe = RECIPES[name]
    head = generate(recipe)
    assert recipe.latents == latents == len(head.hierarchy.levels[4].features)
    assert head.topology.num_vertices == len(head.positions) == vertices
    assert len(head.hierarchy.levels) == recipe.depth + 1
    sizes = np.bincount(head.topology.polygon_sizes)
    assert sizes[4] > 20 * sizes[3] > 0  # quads above all
    assert head.topology.has_uvs and 0 <= head.topology.uvs.min() <= head.topology.uvs.max() <= 1
    assert all(level.types.sum() == len(level.features) for level in head.hierarchy.levels)  # self-loops only


def test_generated_head_is_a_head() -> None:
    """It faces outwards in the networks' frame, is taller than deep and wide, and has its nose in front."""
    head = generate(RECIPES["official"])
    centre, radius = sphere_frame(head.positions)
    assert np.abs(centre).max() < 1e-6 and radius == pytest.approx(1, abs=1e-6)
    a, b, c = (head.positions[head.topology.triangles[:, i]] for i in range(3))
    outwards = (np.cross(b - a, c - a) * (a + b + c)).sum(1)
    assert (outwards > 0).mean() > 0.99
    width, height, depth = np.ptp(head.positions, axis=0)
    assert width < depth < height
    tip = head.positions[np.argmax(head.positions[:, 2])]
    assert abs(tip[0]) < 0.1 and tip[1] < head.positions[:, 1].max() / 2
    sides = np.sort(head.topology.edges, axis=1)
    assert len(np.unique(sides)) == head.topology.num_vertices
    reached = np.zeros(head.topology.num_vertices, bool)
    reached[0] = True
    for _ in range(200):
        reached[head.topology.edges[reached[head.topology.edges[:, 0]], 1]] = True
    assert reached.all()


def test_generate_is_repeatable_and_says_when_it_cannot() -> None:
    again = [generate(RECIPES["mini"]).positions for _ in range(2)]
    assert np.array_equal(*again)
    with pytest.raises(ValueError, match="expected one of"):
        generate(Recipe((3, 3, 3), 5000, stages=2, depth=4, width=0.6))


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1])
def test_scales(seed: int) -> None:
    """Velocities are as large as noise; positions lie about a unit sphere and are all different."""
    head = generate(SMALL.recipe)
    vae, dit, encoder = random.draw(SMALL, head.hierarchy, seed)
    tokens = encoder(torch.rand(1, 3, 56, 56))
    for t in (0.0, 0.5, 1.0):
        velocity = dit(torch.randn(1, 42, 4), torch.tensor([t * TIME_SCALE]), tokens)
        assert 0.5 < float(velocity.square().mean().sqrt()) < 2
    positions = vae.decode(torch.randn(1, 42, 4))[0, :, :3].numpy()
    assert 0.1 < positions.std() < 0.5 and np.linalg.norm(positions, axis=1).max() < 2
    assert len(np.unique(positions, axis=0)) == len(positions)
    assert all(np.linalg.matrix_rank(m) == 3 for m in (positions, positions - positions.mean(0)))
    points = torch.randn(1, 256, 6)
    mean, logvar = vae.encode(points)
    assert 0.1 < float(mean.std()) < 3 and float(logvar.abs().max()) < 10


def test_seeds() -> None:
    hierarchy = generate(SMALL.recipe).hierarchy
    first, again, other = (random.draw(SMALL, hierarchy, seed)[1].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["input_layer.weight"], other["input_layer.weight"])


def test_every_output_says_random_weights(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from topos_rt.cli.main import main as command

    said = "random weights"
    assert command(["info", str(bundle)]) == 0
    assert said in capsys.readouterr().out
    with HeadPipeline.open(bundle, threads=1) as pipe:
        head = pipe(PORTRAIT, steps=2)
        assert said in head.metadata["weights"] and np.isfinite(head.positions).all()
        assert said in pipe.retopologize(head.positions, head.normals, passes=1).metadata["weights"]
        assert all(said in preview.metadata["weights"] for preview in pipe.stream(PORTRAIT, steps=2))
    for name in ("head.glb", "head.obj"):
        head.save(tmp_path / name)
        assert said.encode() in (tmp_path / name).read_bytes()
    from PIL import Image

    Image.fromarray(PORTRAIT).save(tmp_path / "portrait.png")
    arguments = ["generate", str(tmp_path / "portrait.png"), "--model", str(bundle), "--steps", "1", "-o"]
    assert command([*arguments, str(tmp_path / "a.glb")]) == 0
    output = capsys.readouterr()
    assert said in output.out + output.err
    assert command([*arguments, str(tmp_path / "b.glb"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert said in report["weights"] and said in report["heads"][0]["metadata"]["weights"]


def test_bundle(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.manifest.weights.kind == "random" and "seed 4" in opened.manifest.weights.origin
    assert opened.manifest.latent.tokens == 42 and opened.manifest.points.count == 256


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--points", "3"]])
def test_bad_options(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["random", "--preset", "mini", *arguments, "--out", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {arguments[0]}: got {arguments[1]}")


def test_the_decoder_of_the_release_behind_small_networks() -> None:
    full, small = random.official(), random.decoder()
    assert (small.recipe, small.vae) == (full.recipe, full.vae)
    for key in ("in_channels", "out_channels", "num_latents"):
        assert small.dit[key] == full.dit[key]
    assert small.dit["model_channels"] * small.dit["num_blocks"] < 400
