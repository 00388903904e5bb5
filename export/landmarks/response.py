"""`python -m export response`: give a bundle its landmark response, from its own heads and drawings of them.

Portraits of the mean head are drawn, and the flow makes heads of each, as it was trained: what differs
between the seeds of one portrait is what the model itself holds for open. These heads are drawn in turn, and
the landmarks that are found in the drawings compared with the true ones. Where there are better pictures of
heads that are known, as for `mini`, `python -m training.response` learns from them instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image

from export.landmarks.command import mean_head
from export.landmarks.drawing import Model, View
from export.landmarks.paint import Stroke, strokes
from models import landmark_response as measured
from topos_rt.errors import InputError
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.flow.sampling import guided, noise, sample
from topos_rt.flow.settings import resolve
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.model.bundle import Bundle
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.model.networks import Networks
from topos_rt.pipeline import HeadPipeline
from topos_rt.support.files import check_writable

HEADS, FEWEST = 120, 32
_PORTRAITS = (View(-25, 0), View(0, 0), View(0, 10), View(25, 0))
_VIEWS = tuple(View(yaw, pitch) for pitch in (-12, 0, 12) for yaw in (-40, -20, -8, 0, 8, 20, 40))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `response`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="directory of the bundle, which is changed"
    )
    parser.add_argument(
        "--heads", type=int, default=HEADS, metavar="N", help=f"heads to make and draw (default: {HEADS})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the response, write it into the bundle, and renew the manifest. Raises InputError."""
    if arguments.heads < FEWEST:
        raise InputError("--heads", got=arguments.heads, expected=f"{FEWEST} or more")
    bundle = Bundle.open(arguments.bundle)
    measured.landmark_map(bundle)
    check_writable(bundle.path / measured.FILE)
    with HeadPipeline.open(bundle) as pipe, FaceFinder.open() as finder:
        response = make_response(bundle, pipe._networks, finder, arguments.heads)
    print(measured.add_to(bundle, response))


def make_response(bundle: Bundle, networks: Networks, finder: FaceFinder, heads: int) -> LandmarkResponse:
    """Return the response of a bundle. Raises InputError where too few drawings show a face."""
    latents, errors = _sampled(bundle, networks, finder, heads)
    seen = []
    for latent, view in zip(latents, cycle(_VIEWS), strict=False):
        head = measured.positions(bundle, networks, latent)
        picture = _drawn(bundle, head, view)
        faces = finder.find_in(picture, most=1)
        if faces and not faces[0].hidden:
            found = measured.residuals(bundle, head, faces[0], picture.size)
            seen += [] if found is None else [found]
    return measured.respond(bundle, networks, latents.mean(0), errors, seen)


def _sampled(
    bundle: Bundle, networks: Networks, finder: FaceFinder, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return latents [n,N*D] of heads, and how each differs from the mean of its portrait's."""
    mean, each = mean_head(bundle).positions, -(-count // len(_PORTRAITS))
    groups = []
    for number, view in enumerate(_PORTRAITS):
        picture = _drawn(bundle, mean, view)
        groups.append(
            list(_heads(bundle, networks, finder, picture, range(number * each, (number + 1) * each)))
        )
    latents = np.array(groups, np.float64)
    errors = (latents - latents.mean(1, keepdims=True)) * np.sqrt(each / (each - 1))
    return latents.reshape(len(_PORTRAITS) * each, -1), errors.reshape(len(_PORTRAITS) * each, -1)


def _heads(
    bundle: Bundle, networks: Networks, finder: FaceFinder, picture: Image.Image, seeds: range
) -> Iterator[np.ndarray]:
    """Yield latents [N*D] of a portrait at the temperature that the flow was trained at."""
    manifest = bundle.manifest
    (portrait,) = portraits(picture, "a drawing", finder, FaceChoice(check=False))
    seen = evidence(manifest.evidence or (), picture, portrait.face, finder)
    condition = networks.encode_image(portrait.pixels(manifest.image.height, manifest.image.width), seen)
    field = networks.field(networks.context(condition.tokens))
    settings = resolve("fast", guidance=manifest.flow.guidance, temperature=1.0)
    for seed in seeds:
        start = noise(seed, (1, manifest.latent.tokens, manifest.latent.channels))
        for step in sample(guided(field, settings), start, settings):
            state = step.x_next
        yield networks.latent(state, condition).ravel()


def _drawn(bundle: Bundle, positions: np.ndarray, view: View) -> Image.Image:
    """Draw a head [V,3]."""
    head = HeadMesh(positions, vertex_normals(positions, bundle.topology.triangles), bundle.topology)
    rest = positions.astype(np.float64)
    return Model(head).draw(view, rest, _paint(bundle, rest)).picture


def _paint(bundle: Bundle, rest: np.ndarray) -> list[Stroke]:
    places = measured.landmark_map(bundle)
    return strokes(places.points(rest), places.mirrored, "lips" not in bundle.topology.regions)
