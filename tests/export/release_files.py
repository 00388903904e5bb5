"""Write small models, of some kilobytes, in the release's own file formats, as a user would bring them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from models import TOPOSVAE, ImageEncoder, TOPOSDiT
from topos_rt.formats import write_obj
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from topos_rt.support.similarity import sphere_frame

DATA = Path(__file__).parent.parent / "data" / "official"
ENCODER = {"embed_dim": 64, "depth": 1, "num_heads": 1, "img_size": 518}
HALF_WIDTH = 7.0  # centimetres, half the width of the mesh in the obj


@dataclass(frozen=True)
class Sizes:
    """The sizes of a small model, by the keys of the configuration."""

    code_channel: int = 4
    width: int = 16
    num_encoder_layers: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    decoder_channel: tuple[int, ...] = (16, 16, 8, 8, 8)
    num_freqs: int = 8
    model_channels: int = 32
    num_blocks: int = 1
    num_heads: int = 2
    depth: int = 6
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """The directory of the files, and the networks that were saved."""

    folder: Path
    hierarchy: Hierarchy
    topology: Topology
    vae: TOPOSVAE
    dit: TOPOSDiT
    encoder: ImageEncoder
    points: int = 64

    @property
    def arguments(self) -> list[str]:
        """The arguments of `python -m export official`, without --out."""
        ckpt = self.folder / "pretrained_ckpt"
        return [
            "official",
            "--vae",
            f"{ckpt}/TOPOS-VAE.model.pth",
            "--dit",
            f"{ckpt}/TOPOS-DiT.model.pth",
            "--image-encoder",
            f"{ckpt}/dinov2_vitl14_reg4_pretrain.pth",
            "--topology",
            f"{self.folder}/data",
            "--config",
            f"{self.folder}/configs/dit.yaml",
            "--points",
            str(self.points),
        ]

    def file(self, name: str) -> Path:
        """Return one of the files by its name in the release."""
        return next(self.folder.rglob(name))


def ball_topology(rings: int, segments: int, corners: Sequence[int] = (4,)) -> tuple[np.ndarray, Topology]:
    """Make a ball [V,3], bent so that no two levels are alike, whose polygons have these corners in turn.

    Neighbouring quads of a ring are joined to n-gons of 6 (corners 6), or cut in two (corners 3).
    """
    polar = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    around = np.arange(segments) * (2 * np.pi / segments)
    points = np.stack(
        [np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around, np.sin(polar) * np.cos(around)], -1
    ).reshape(-1, 3)
    points = points * [0.7, 1.0, 0.8] + 0.1 * points[:, 1:2] ** 2 * [1, 0, 0.5]
    polygons: list[list[int]] = []
    for ring in range(rings - 2):
        column = 0
        while column < segments:
            kind = corners[len(polygons) % len(corners)]
            kind = 4 if kind == 6 and column + 2 > segments else kind
            a, b, c = (ring * segments + (column + i) % segments for i in range(3))
            below_a, below_b, below_c = (i + segments for i in (a, b, c))
            if kind == 3:
                polygons += [[a, below_a, below_b], [a, below_b, b]]
            elif kind == 6:
                polygons.append([a, below_a, below_b, below_c, c, b])
            else:
                polygons.append([a, below_a, below_b, b])
            column += 2 if kind == 6 else 1
    uvs = np.stack([np.tile(around / 7, rings - 1), np.repeat(polar[:, 0] / 4, segments)], 1)
    return points, Topology.from_polygons(len(points), polygons, uvs.astype(np.float32), polygons)


def write_release(
    folder: Path, sizes: Sizes | None = None, mesh: tuple[np.ndarray, Topology] | None = None
) -> Release:
    """Write checkpoints with random weights, configuration and topology as the release lays them out."""
    sizes = sizes or Sizes()
    points, topology = mesh or ball_topology(10, 12)
    hierarchy = write_topology(folder / "data", points, topology, sizes.depth)
    latents = len(hierarchy.levels[len(sizes.decoder_blocks)].features)
    torch.manual_seed(1)
    vae = TOPOSVAE(
        hierarchy,
        code_channels=sizes.code_channel,
        width=sizes.width,
        num_freqs=sizes.num_freqs,
        num_encoder_layers=sizes.num_encoder_layers,
        decoder_blocks=sizes.decoder_blocks,
        decoder_channel=sizes.decoder_channel,
    )
    dit = TOPOSDiT(
        in_channels=sizes.code_channel,
        out_channels=sizes.code_channel,
        model_channels=sizes.model_channels,
        num_latents=latents,
        cond_channels=ENCODER["embed_dim"],
        num_blocks=sizes.num_blocks,
        num_heads=sizes.num_heads,
    )
    encoder = ImageEncoder(**ENCODER)
    for network in (vae, dit, encoder):
        for parameter in network.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        network.requires_grad_(False).eval()
    tie_biases(vae)
    save_checkpoints(folder, vae, dit, encoder)
    model = {
        "num_latents": latents,
        "cond_channels": ENCODER["embed_dim"],
        "code_channel": sizes.code_channel,
        "df_in_channels": sizes.code_channel,
        "df_out_channels": sizes.code_channel,
        "width": sizes.width,
        "num_encoder_layers": sizes.num_encoder_layers,
        "num_freqs": sizes.num_freqs,
        "decoder_blocks": list(sizes.decoder_blocks),
        "decoder_channel": list(sizes.decoder_channel),
        "model_channels": sizes.model_channels,
        "num_blocks": sizes.num_blocks,
        "num_heads": sizes.num_heads,
    }
    write_config(folder, model | sizes.extra, sizes.depth)
    return Release(folder, hierarchy, topology, vae, dit, encoder)


def tie_biases(vae: nn.Module) -> None:
    """Make the two biases that a residual block adds up equal: they begin and move alike in training."""
    state = vae.state_dict()
    for name, value in state.items():
        if name.endswith(".skip.1.bias"):
            value.copy_(state[name.replace("skip.1", "conv_b.gn")])


def save_checkpoints(folder: Path, vae: nn.Module, dit: nn.Module, encoder: nn.Module) -> None:
    ckpt = folder / "pretrained_ckpt"
    ckpt.mkdir(parents=True, exist_ok=True)
    # One of the checkpoints has the keys that torch.compile leaves.
    torch.save({f"_orig_mod.{k}": v for k, v in dit.state_dict().items()}, ckpt / "TOPOS-DiT.model.pth")
    torch.save(vae.state_dict(), ckpt / "TOPOS-VAE.model.pth")
    torch.save(encoder.state_dict(), ckpt / "dinov2_vitl14_reg4_pretrain.pth")


def write_config(folder: Path, model: dict[str, Any], depth: int) -> None:
    tree = {
        "SOLVER": {"run": "train", "lr": 1e-4},
        "MODEL": {"base_mesh": "./data/template.obj", "compile": True, "cfg_strength": 3.0} | model,
        "DATA": {
            "train": {"depth": depth, "batch_size": 8},
            "test": {"depth": depth, "edge_file": "./data/edges.npy", "cluster_file": "./data/cluster.npz"},
        },
    }
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs/dit.yaml").write_text(yaml.safe_dump(tree))


def write_topology(folder: Path, points: np.ndarray, topology: Topology, depth: int) -> Hierarchy:
    """Write template.obj, in centimetres away from the origin, and the arrays beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    centre, radius = sphere_frame(points)
    vertices = ((points - centre) / radius).astype(np.float32)
    normals = vertex_normals(vertices, topology.triangles)
    placed = vertices * np.float32(HALF_WIDTH) + np.float32([0, 170, 2])
    (folder / "template.obj").write_bytes(write_obj(HeadMesh(placed, normals, topology)))
    hierarchy = Hierarchy.build(vertices, normals, topology.edges, depth=depth)
    np.savez(folder / "template_vertices.npz", vertices=vertices, normals=normals)
    np.save(folder / "edges.npy", topology.edges)
    np.save(folder / "faces.npy", topology.triangles.astype(np.int64))
    np.savez(
        folder / "cluster.npz", **{f"depth{i}": hierarchy.levels[i].cluster for i in range(1, depth + 1)}
    )
    return hierarchy


def write_fixture_release(folder: Path) -> Release:
    """Write the official modules' VAE and image encoder with their topology, and a DiT of ours that fits."""
    shutil.copytree(DATA / "topology", folder / "data")
    template, clusters = np.load(folder / "data/template_vertices.npz"), np.load(folder / "data/cluster.npz")
    maps = [clusters[f"depth{i}"] for i in range(1, 9)]
    edges = np.load(folder / "data/edges.npy")
    hierarchy = Hierarchy.build(template["vertices"], template["normals"], edges, maps)
    topology = read_mesh(folder / "data/template.obj").topology
    small = {"width": 32, "num_encoder_layers": 2, "decoder_blocks": [2, 2, 1, 1]}
    small |= {"decoder_channel": [32, 32, 16, 16, 16], "num_latents": 720}
    vae = TOPOSVAE(hierarchy, code_channels=8, **small)
    vae.load_state_dict(load_file(DATA / "vae_state_strong.safetensors"))
    torch.manual_seed(2)
    dit = TOPOSDiT(
        in_channels=8,
        out_channels=8,
        model_channels=32,
        num_latents=720,
        cond_channels=64,
        num_blocks=1,
        num_heads=2,
    )
    encoder = ImageEncoder(embed_dim=64, depth=2, num_heads=1)
    encoder.load_state_dict(load_file(DATA / "dino_state_strong.safetensors"))
    for network in (vae, dit, encoder):
        network.requires_grad_(False).eval()
    save_checkpoints(folder, vae, dit, encoder)
    model = small | {"code_channel": 8, "df_in_channels": 8, "df_out_channels": 8, "cond_channels": 64}
    write_config(folder, model | {"model_channels": 32, "num_blocks": 1, "num_heads": 2}, 8)
    points = load_file(DATA / "vae_io_strong.safetensors")["pointcloud"].shape[1]
    return Release(folder, hierarchy, topology, vae, dit, encoder, points)
