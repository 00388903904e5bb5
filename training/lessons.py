"""Easy lessons beside the flow: linear probes that make the image encoder see, and that export drops.

An encoder that is trained for shape alone learns nothing for thousands of steps. So its tokens must also say
where landmarks are and what every patch shows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import mini as config
from training.gbuffers import LANDMARKS, Material

PROBE_COMPONENTS = 64
DENSE_WEIGHT = 3.0
PLACES_WEIGHT = 20.0
FIRST_PATCH = 5  # index of the first patch token, after the class and register tokens
GRID = config.IMAGE_SIZE // config.IMAGE_ENCODER["patch_size"]
CELLS_PER_PATCH = 2
# A cell of a patch is described by its mean normal (three channels) and the shares of these materials.
SEEN: tuple[tuple[Material, ...], ...] = (
    (), (), (), (Material.SKIN, Material.BEARD), (Material.LIPS,), (Material.BROWS,),
    (Material.SCLERA, Material.IRIS, Material.PUPIL), (Material.HAIR,), (Material.CLOTHES,))  # fmt: skip
SEEN_CHANNELS = len(SEEN) * CELLS_PER_PATCH**2


def what_is_seen(normals: Tensor, materials: Tensor) -> Tensor:
    """Return the targets [B,patches,SEEN_CHANNELS] of the dense probe, in -1..1, for G-buffers."""
    groups = torch.tensor([[float(kind in kinds) for kinds in SEEN[3:]] for kind in Material])
    maps = torch.cat([normals / 127, groups[materials.long()]], -1).permute(0, 3, 1, 2)
    cells = F.adaptive_avg_pool2d(maps, GRID * CELLS_PER_PATCH)
    return F.pixel_unshuffle(cells, CELLS_PER_PATCH).flatten(2).transpose(1, 2)


class Lessons(nn.Module):
    """The probes of tokens [B,T,C]."""

    components: Tensor  # [PROBE_COMPONENTS, N*6]
    deviation: Tensor  # [PROBE_COMPONENTS]
    centres: Tensor  # [patches,1,2]

    def __init__(self, channels: int, latent_size: int) -> None:
        super().__init__()
        self.shape = nn.Linear(2 * channels, PROBE_COMPONENTS)
        self.dense = nn.Linear(channels, SEEN_CHANNELS)
        self.landmarks = nn.Linear(channels, 3 * LANDMARKS)
        self.register_buffer("components", torch.zeros(PROBE_COMPONENTS, latent_size))
        self.register_buffer("deviation", torch.ones(PROBE_COMPONENTS))
        middle = (torch.arange(GRID) + 0.5) * 2 / GRID - 1
        rows, columns = torch.meshgrid(middle, middle, indexing="ij")
        self.register_buffer("centres", torch.stack([columns, rows], -1).view(-1, 1, 2), persistent=False)

    def fit(self, anchors: Tensor) -> None:
        """Set the principal directions from the training anchors [n,N,6]."""
        _, values, directions = torch.pca_lowrank(anchors.flatten(1), PROBE_COMPONENTS, niter=4)
        self.components.copy_(directions.T)
        self.deviation.copy_(values / len(anchors) ** 0.5)

    def read(self, tokens: Tensor) -> Tensor:
        """Predict the principal components [B,PROBE_COMPONENTS] of the anchors, at unit variance."""
        return self.shape(torch.cat([tokens[:, 0], tokens[:, FIRST_PATCH:].mean(1)], -1))

    def places(self, tokens: Tensor) -> Tensor:
        """Predict the landmarks [B,LANDMARKS,2]: every patch votes for a place with a confidence.

        Votes are relative to the patch, so that weights which find a nose in one place find it everywhere.
        """
        votes = self.landmarks(tokens[:, FIRST_PATCH:]).unflatten(-1, (LANDMARKS, 3))
        confidence = votes[..., :1].softmax(1)
        return (confidence * (self.centres + votes[..., 1:] * 2 / GRID)).sum(1)

    def losses(self, tokens: Tensor, anchors: Tensor, seen: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
        """Return the losses for the head's shape, the places of its landmarks, and what every patch shows.

        anchors: [B,N,6]. seen: as `what_is_seen` returns it. landmarks: [B,LANDMARKS,2] in -1..1.
        """
        wanted = (anchors.flatten(1) @ self.components.T) / self.deviation
        # Weights lie between deviation and variance, which would leave almost nothing to later components.
        weights = self.deviation**1.5 / (self.deviation**1.5).sum()
        return {
            "shape": ((self.read(tokens) - wanted).square() * weights).sum(1).mean(),
            "places": PLACES_WEIGHT * (self.places(tokens) - landmarks).abs().mean(),
            "dense": DENSE_WEIGHT * (self.dense(tokens[:, FIRST_PATCH:]) - seen).square().mean(),
        }


class ShapeLesson(nn.Module):
    """The probe of the evidence encoder's tokens [B,T,C]: they must say what the head's shape is."""

    components: Tensor  # [E,N*6]
    deviation: Tensor  # [E]

    def __init__(self, channels: int, components: int, latent_size: int) -> None:
        super().__init__()
        self.shape = nn.Linear(2 * channels, components)
        self.register_buffer("components", torch.zeros(components, latent_size))
        self.register_buffer("deviation", torch.ones(components))

    def fit(self, anchors: Tensor, basis: Tensor) -> None:
        """Set the principal directions of the training anchors [n,N,6] in the span of a basis [K,N*6]."""
        coordinates = anchors.flatten(1) @ basis.T
        values, turn = torch.linalg.eigh(coordinates.T @ coordinates / len(anchors))
        largest = values.argsort(descending=True)[: len(self.deviation)]
        self.components.copy_(turn.T[largest] @ basis)
        self.deviation.copy_(values[largest].sqrt())

    def read(self, tokens: Tensor) -> Tensor:
        """Predict the principal components [B,E] of the anchors, at unit variance."""
        return self.shape(torch.cat([tokens[:, -1], tokens.mean(1)], -1))

    def loss(self, tokens: Tensor, anchors: Tensor) -> Tensor:
        """Return the loss for anchors [B,N,6]."""
        wanted = (anchors.flatten(1) @ self.components.T) / self.deviation
        weights = self.deviation**1.5 / (self.deviation**1.5).sum()
        return ((self.read(tokens) - wanted).square() * weights).sum(1).mean()
