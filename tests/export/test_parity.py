"""Our networks give the outputs of the official modules (FP32, CPU) with both sets of weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from models import ImageEncoder, TOPOSDiT
from tests.export.parity import DATA, META, SETS, close, load_dit, load_hierarchy, load_vae
from topos_rt.head.hierarchy import Hierarchy


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return load_hierarchy()


@SETS
@torch.no_grad()
def test_dit(suffix: str) -> None:
    model, io = load_dit(suffix), load_file(DATA / f"dit_io{suffix}.safetensors")
    close(model(io["x"], io["t"], io["cond"]), io["out"])
    close(model(io["x"], io["t"], torch.zeros_like(io["cond"])), io["out_zero_cond"])
    close(model.t_embedder(io["t"]), io["dbg.t_emb"])
    close(model.input_layer(io["x"]) + model.pos_emb, io["dbg.h_in"])


@SETS
@torch.no_grad()
def test_dit_in_two_parts(suffix: str) -> None:
    model, io = load_dit(suffix), load_file(DATA / f"dit_io{suffix}.safetensors")
    keys, values = model.context(io["cond"])
    close(model.step(io["x"], io["t"], keys, values), io["out"])


@SETS
@torch.no_grad()
def test_vae_encoder(suffix: str, hierarchy: Hierarchy) -> None:
    model, io = load_vae(suffix, hierarchy), load_file(DATA / f"vae_io{suffix}.safetensors")
    close(model.fourier(io["pointcloud"][..., :3]), io["dbg.fourier"])
    mean, logvar = model.encode(io["pointcloud"])
    close(mean, io["mean"])
    close(logvar, io["logvar"])


@SETS
@torch.no_grad()
def test_vae_decoder_gather_and_sparse_forms(suffix: str, hierarchy: Hierarchy) -> None:
    model, io = load_vae(suffix, hierarchy), load_file(DATA / f"vae_io{suffix}.safetensors")
    for training in (False, True):  # the gather, then the sparse product
        model.train(training)
        close(model.decode(io["latent"][None])[0], io["decoded"])
        close(model.decode(io["mean"])[0], io["decode_mean"])


@SETS
@torch.no_grad()
def test_vae_decoder_batch_equals_one_by_one(suffix: str, hierarchy: Hierarchy) -> None:
    model, io = load_vae(suffix, hierarchy), load_file(DATA / f"vae_io{suffix}.safetensors")
    both = model.decode(torch.stack([io["latent"], -io["latent"]]))
    close(both[0], io["decoded"])
    close(both[1], model.decode(-io["latent"][None])[0])


@SETS
@torch.no_grad()
def test_image_encoder(suffix: str) -> None:
    names = ("embed_dim", "depth", "num_heads", "img_size", "patch_size", "num_register_tokens", "mlp_ratio")
    model = ImageEncoder(**{k: META["dino"]["config"][k] for k in names})
    model.load_state_dict(load_file(DATA / f"dino_state{suffix}.safetensors"), strict=True)
    io = load_file(DATA / f"dino_io{suffix}.safetensors")
    close(model.position(5, 5), io["dbg.pos_embed_interp"])
    close(model.prenorm(io["image"]), io["x_prenorm"])
    close(model.tokens(io["image"]), io["cond"])
    if "image518" in io:
        close(model.tokens(io["image518"]), io["cond518"])


def test_released_shapes() -> None:
    """Every key and shape is that of the released checkpoints; nothing is allocated."""
    keys = json.loads((DATA / "official_keys.json").read_text())
    with torch.device("meta"):
        dit = TOPOSDiT(
            in_channels=32,
            out_channels=32,
            model_channels=1024,
            num_latents=1513,
            cond_channels=1024,
            num_blocks=24,
            num_heads=16,
        )
        encoder = ImageEncoder()
    assert {k: list(v.shape) for k, v in dit.state_dict().items()} == keys["TOPOS-DiT"]
    assert {k: list(v.shape) for k, v in encoder.state_dict().items()} == keys["DINOv2-ViT-L/14-reg4"]
