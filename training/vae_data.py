"""The heads that `mini`'s VAE and flow learn from, in the networks' frame, and what their latents mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.geometry import MeshGeometry
from training.heads import HELD_OUT_SEED, TRAIN_SEED, HeadModel, normalise
from training.latents import NodeOffsets
from training.pictures import shards

TRAIN_HEADS, HELD_OUT_HEADS = 16_000, 200


class VAEData:
    """Training and held-out heads in the networks' frame, their mean and spread, and their geometry."""

    def __init__(self, model: HeadModel, heads: int = TRAIN_HEADS, people: Path | None = None) -> None:
        """Draw heads; people: a folder of training pictures whose people take the places of the last half.

        The code (`offsets`), the mean and the spread are those of the sliders, with people or without: so
        networks that were trained on the one go on with the other.
        """
        self.positions = torch.from_numpy(normalise(model.sample(heads, TRAIN_SEED))[0])
        held_out, radii = normalise(model.sample(HELD_OUT_HEADS, HELD_OUT_SEED))
        self.held_out, self.held_out_radii = torch.from_numpy(held_out), torch.from_numpy(radii)
        self.mean = self.positions.mean(0)
        self.geometry = MeshGeometry(model.topology, self.mean.numpy())
        self.mean_normals = self.geometry.vertex_normals(self.mean[None])[0]
        subset = self.positions[:500]
        spread = subset - self.mean
        bend = self.geometry.vertex_normals(subset) - self.mean_normals
        self.offsets = NodeOffsets(model.hierarchy, self.geometry, self.positions[:4000])
        self.scale = torch.cat([part.square().mean().sqrt().expand(3) for part in (spread, bend)])
        if people is not None:
            others = torch.from_numpy(normalise(people_heads(people))[0])
            self.positions = torch.cat([self.positions[: max(len(others), heads // 2)], others])


def people_heads(folder: Path) -> np.ndarray:
    """Return the neutral heads [n,V,3] of all people in a folder of training pictures, metres."""
    files = sorted(folder.glob("shard_*.npz"))
    return np.concatenate([shards.load(path).neutral_heads() for path in files])
