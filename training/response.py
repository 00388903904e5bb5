"""Measure the landmark response of a bundle on training pictures, whose true heads are known.

    python -m training.response --bundle BUNDLE --pictures runs/train [--people 600]

The bundle gets a file that says along which directions of the latent its heads are off, and by how much; how
these move the landmarks; and how far off the landmarks are that the face stage finds. Sampling with
`landmark_pull` needs it: docs/sampling.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from models import landmark_response as measured
from topos_rt import Bundle, HeadPipeline
from topos_rt.errors import OptionError
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.support.files import check_writable
from training.geometry import MeshGeometry
from training.heads import EVALUATION_SEED, normalise
from training.sitters import Sitter, sit

PEOPLE = 600
FEWEST = 100
_DRAWS = 2  # clouds that a head is encoded from


class Encoder:
    """Encodes heads as the means of latents, each from the same points of the topology's surface."""

    def __init__(self, pipe: HeadPipeline, mean: np.ndarray) -> None:
        self._pipe, self._geometry = pipe, MeshGeometry(pipe.bundle.topology, mean)

    def latents(self, heads: np.ndarray) -> np.ndarray:
        """Return latents [n,N*D] of heads [n,V,3], metres.

        Points are drawn alike for every call, so that errors of two heads by the choice of points are alike.
        """
        units, count = normalise(heads)[0], self._pipe.bundle.manifest.points.count * _DRAWS
        rows = []
        for unit in units:
            generator = torch.Generator().manual_seed(EVALUATION_SEED)
            cloud = self._geometry.sample_surface(torch.from_numpy(unit[None]), count, generator)[0].numpy()
            rows.append(self._pipe._networks.encode_head(cloud[:, :3], cloud[:, 3:], _DRAWS)[0].ravel())
        return np.stack(rows).astype(np.float64)


def measure(pipe: HeadPipeline, people: list[Sitter]) -> LandmarkResponse:
    """Return the response of a pipeline's bundle, by people whose heads are known."""
    bundle, truth = pipe.bundle, np.stack([person.truth for person in people])
    encoder = Encoder(pipe, normalise(truth)[0].mean(0))
    true, made, seen = encoder.latents(truth), [], []
    for person in people:
        head = pipe(person.picture, face=person.face, texture="none").positions
        made.append(encoder.latents(head[None])[0])
        size = (person.picture.shape[1], person.picture.shape[0])
        if (found := measured.residuals(bundle, person.truth, person.face, size)) is not None:
            seen.append(found)
    return measured.respond(bundle, pipe._networks, true.mean(0), true - np.stack(made), seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle, which is changed")
    parser.add_argument("--pictures", type=Path, required=True, metavar="SHARDS", help="folder of renders")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"one picture each (default: {PEOPLE})")
    args = parser.parse_args()
    if args.people < FEWEST:
        raise OptionError("--people", got=args.people, expected=f"{FEWEST} or more")
    torch.set_num_threads(1)
    bundle = Bundle.open(args.bundle)
    measured.landmark_map(bundle)
    check_writable(args.bundle / measured.FILE)
    with HeadPipeline.open(bundle, threads=1) as pipe:
        response = measure(pipe, sit(pipe, args.pictures, args.people).found)
    print(measured.add_to(bundle, response))


if __name__ == "__main__":
    main()
