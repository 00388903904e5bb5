"""How training judges heads: by the vertices that the linear decoder makes of latents, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models import mini as config
from training.linear_decoder import LinearDecoder
from training.train_vae import vertex_error_mm
from training.vae_data import VAEData


@dataclass(frozen=True)
class Judge:
    """Turns latents into heads, linearly, and measures them."""

    linear: LinearDecoder
    face: Tensor  # [F] vertices of the face

    def millimetres(self, latents: Tensor, truth: Tensor, radii: Tensor) -> tuple[float, float]:
        """Return the errors of the whole head and of the face, after a similarity, for latents [B,N,6]."""
        got = self.linear(latents)
        return vertex_error_mm(got, truth, radii), vertex_error_mm(*_aligned(got, truth, self.face), radii)

    def metric(self, residuals: Tensor) -> Tensor:
        """Return the map [N*6,K] by which latents' errors count as their vertices do.

        The face, after a similarity, counts as much as the whole head, though its errors are far smaller. The
        mean square of residuals [n,N,6] is 1 by it.
        """
        coordinates = residuals.flatten(1) @ self.linear.basis.T
        spread = coordinates.T @ coordinates
        mean, moves = self.linear.mean[self.face], self.linear.vertices
        counted = torch.zeros_like(spread)
        for part in (moves.flatten(1), without_similarity(moves[:, self.face], mean).flatten(1)):
            gram = part @ part.T
            counted += gram / (gram * spread).sum()
        values, turn = torch.linalg.eigh(counted)
        made = self.linear.basis.T @ (turn * values.clamp_min(0).sqrt())
        return made / (residuals.flatten(1) @ made).square().mean().sqrt()


def without_similarity(moves: Tensor, points: Tensor) -> Tensor:
    """Return small moves [n,F,3] of points [F,3] without what a small similarity of them all would do."""
    at = points - points.mean(0)
    ways = [axis.expand_as(at) for axis in torch.eye(3)]
    ways += [torch.linalg.cross(axis.expand_as(at), at) for axis in torch.eye(3)]
    basis, _ = torch.linalg.qr(torch.stack([at, *ways]).flatten(1).T)  # [F*3,7]
    flat = moves.flatten(1)
    return (flat - flat @ basis @ basis.T).view_as(moves)


def _aligned(got: Tensor, want: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts `ids` of heads [B,V,3], the first moved onto the second by similarities.

    Source: Umeyama 1991.
    """
    a, b = got[:, ids], want[:, ids]
    a, middle = a - a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    u, s, vt = torch.linalg.svd(a.transpose(1, 2) @ (b - middle))
    s = s * torch.cat([torch.ones_like(s[:, :2]), torch.sign(torch.linalg.det(u @ vt))[:, None]], 1)
    turn = u @ torch.diag_embed(torch.sign(s)) @ vt
    scale = s.sum(1) / a.square().sum((1, 2))
    return scale[:, None, None] * a @ turn + middle, b


def face_of(data: VAEData) -> np.ndarray:
    """Return the vertices [F] of the mean head within 95 mm of the tip of the nose, without the ears.

    It is what watches training; `topos_rt.compare` defines the face that results are measured on.
    """
    mean = data.mean.numpy() * config.RADIUS_M
    tip = (mean[:, 2] - 10 * np.abs(mean[:, 0])).argmax()
    near = np.linalg.norm(mean - mean[tip], axis=1) < 0.095
    return np.flatnonzero(near & (np.abs(mean[:, 0]) < 0.068))
