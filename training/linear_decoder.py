"""The linear part of `mini`'s decoder: what a latent says of the vertices before any network.

Heads beyond anny's sliders vary in more directions than a small network learns within an hour, but nearly all
that a latent tells of them is linear. So a ridge regression from latents to vertices, reduced to the
directions that move vertices most, comes first. The network learns what is left, and the flow learns latents
by what these directions make of them. `training.train_vae` writes the file; `training.train_flow` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models import TOPOSVAE
from topos_rt.support.tensorfile import read_tensors, write_tensors
from training.vae_data import VAEData

FILE = "linear_decoder.safetensors"
RIDGE = 1.0
CHUNK = 500  # heads


@dataclass(frozen=True)
class LinearDecoder:
    """Turns latents into vertices: mean + (latent basis^T) vertices."""

    basis: Tensor  # [K,N*D] orthonormal
    vertices: Tensor  # [K,V,3] how far one unit along each moves the vertices, in the networks' frame
    mean: Tensor  # [V,3] of a latent that is all zero

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the vertices [B,V,3] of latents [B,N,D]."""
        coordinates = latents.flatten(1) @ self.basis.T
        return self.mean + (coordinates @ self.vertices.flatten(1)).view(len(latents), -1, 3)

    def into(self, vae: TOPOSVAE) -> None:
        """Set the linear part of a VAE."""
        vae.latent_basis.copy_(self.basis)
        vae.linear_vertices.data.copy_(self.vertices)
        vae.output_mean[:, :3] = self.mean

    def save(self, directory: Path) -> None:
        """Write FILE into a directory, which is made where there is none."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name).numpy() for name in ("basis", "vertices", "mean")}
        write_tensors(directory / FILE, arrays, {})

    @classmethod
    def open(cls, directory: Path) -> LinearDecoder:
        """Read what `save` wrote."""
        tensors, _ = read_tensors(directory / FILE)
        return cls(*(torch.from_numpy(tensors[name]) for name in ("basis", "vertices", "mean")))


def fit(data: VAEData, rank: int) -> LinearDecoder:
    """Fit the linear decoder to all heads of `data` by reduced-rank regression."""
    latents = data.offsets.of_many(data.positions).flatten(1)
    middle, mean = latents.mean(0), data.positions.mean(0)
    latents = latents - middle
    gram = latents.T @ latents
    cross = torch.zeros(len(middle), mean.numel())
    for some, heads in zip(latents.split(CHUNK), data.positions.split(CHUNK), strict=True):
        cross += some.T @ (heads - mean).flatten(1)
    gram.diagonal().add_(RIDGE)
    half = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(cross, half)  # [N*D,V*3]
    # The regression's predictions have the principal directions of half^T weights.
    directions = torch.linalg.svd(half.T @ weights, full_matrices=False)[2][:rank]  # [K,V*3]
    basis, inner = torch.linalg.qr(weights @ directions.T)
    vertices = (inner @ directions).view(rank, -1, 3)
    moved = (middle @ basis) @ vertices.flatten(1)
    return LinearDecoder(basis.T.contiguous(), vertices, mean - moved.view_as(mean))
