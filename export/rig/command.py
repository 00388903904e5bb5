"""`python -m export rig`: make a rig from a GLB with skin and morph targets on the bundle's topology."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

from export.rig.gltf import Character, read_character
from models.rig_binding import RigSource, near_regressor
from topos_rt.errors import MeshInputError, OptionError, one_line
from topos_rt.formats.seams import split_seams
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.directories import replacing
from topos_rt.support.files import check_writable
from topos_rt.support.similarity import sphere_frame

_RIG_FILE = "rig.safetensors"
_UV_TOLERANCE = 1e-5
_ROWS = 256
# Offsets shorter than this share of the head's radius, 0.02 mm on a head, are not worth their bytes.
_SHORTEST = 1.5e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rig`."""
    parser.add_argument(
        "character",
        type=Path,
        metavar="CHARACTER.glb",
        help="head of the bundle's topology with skeleton, skin and morph targets",
    )
    parser.add_argument(
        "--bundle",
        required=True,
        metavar="BUNDLE",
        help="model whose topology the character has: the name of a packaged one, or a directory",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write the rig to (default: into the bundle)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Read the character, match it to the topology, bind it, and write the rig."""
    bundle = Bundle.open(arguments.bundle)
    inside = arguments.out is None
    if inside and not Path(arguments.bundle).is_dir():
        raise OptionError(
            "--out",
            got="none, with a packaged model",
            expected="where to write the rig",
            fix="give --out FILE, or --bundle a directory of your own",
        )
    out = bundle.path / (bundle.manifest.rig or _RIG_FILE) if inside else arguments.out
    check_writable(out)
    character = read_character(arguments.character)
    rig = make_rig(character, bundle.topology)
    if inside:
        name = out.relative_to(bundle.path).as_posix()
        with replacing(bundle.path, keep=True) as staging:
            rig.save(staging / name)
            write_manifest(staging, dataclasses.replace(bundle.manifest, rig=name))
    else:
        rig.save(out)
    binding = rig.binding
    assert binding is not None
    for note in character.notes:
        print(one_line(f"{arguments.character}: {note}"), file=sys.stderr)
    print(
        f"{out}: {len(rig.joint_names)} joints, {len(rig.shape_names)} blendshapes,"
        f" {int(binding.parts.max())} rigid parts, {len(binding.contact_pairs)} contacts"
    )


def make_rig(character: Character, topology: Topology) -> Rig:
    """Make the rig of a character, bound to the head that it is.

    Raises MeshInputError where the character has another topology, or a joint cannot be held by the vertices.
    """
    source = match(character, topology)
    template, skin = character.positions[source], character.skin[source]
    held_by = [
        near_regressor(joint, template, np.flatnonzero(skin[:, number] > 0.5))
        for number, joint in enumerate(character.joint_positions)
    ]
    return RigSource(
        template=template,
        joint_names=character.joint_names,
        joint_parents=character.joint_parents,
        held_by=held_by,
        skin=skin,
        shape_names=character.shape_names,
        shapes=character.shapes[:, source],
    ).bind(topology, _SHORTEST * sphere_frame(template)[1])


def match(character: Character, topology: Topology) -> np.ndarray:
    """Return, for each vertex of the topology, a vertex of the character that stands for it: [V].

    Vertices are matched by order where the file has those of the topology, alone or with the copies that our
    own GLBs have; else by UVs, which survive the reordering that modelling programs do. Either way every
    triangle has to lie in a polygon of the topology. Raises MeshInputError where it does not.
    """
    found = len(character.positions)
    copies = split_seams(topology).source
    for source in (np.arange(topology.num_vertices), copies):
        if found == len(source) and _fits(character.triangles, source, topology):
            return np.arange(topology.num_vertices)
    expected = f"{topology.num_vertices} vertices in the topology's order, or the topology's UVs"
    if character.uvs is None or not topology.has_uvs:
        raise MeshInputError(
            "the character's topology",
            got=f"{found} vertices in another order and no UVs",
            expected=expected,
            fix="export with UVs",
        )
    vertex = _by_uv(character.uvs, topology)
    missing = np.setdiff1d(topology.polygon_vertices, vertex)
    if (vertex < 0).any() or len(missing) or not _fits(character.triangles, vertex, topology):
        strangers = int(np.count_nonzero(vertex < 0))
        got = f"{found} vertices, {strangers} at strange UVs; {len(missing)} of its own missing"
        raise MeshInputError(
            "the character's topology",
            got=got,
            expected=expected,
            fix="rig a head that this model made, with its UVs as they are",
        )
    source = np.zeros(topology.num_vertices, np.int64)
    source[vertex[::-1]] = np.arange(found)[::-1]
    return source


def _by_uv(uvs: np.ndarray, topology: Topology) -> np.ndarray:
    """Return the vertex of the topology that has each UV, or -1 where none has: [W]."""
    corners = topology.uvs[topology.polygon_uvs].astype(np.float64)
    known, first, same = np.unique(corners.round(6), axis=0, return_index=True, return_inverse=True)
    vertex = topology.polygon_vertices[first]
    if not np.array_equal(vertex[same.reshape(-1)], topology.polygon_vertices):
        raise MeshInputError(
            "the UVs of the topology",
            got="some shared by several vertices",
            expected="UVs that tell vertices apart",
            fix="keep the order of the vertices when exporting the character",
        )
    result = np.full(len(uvs), -1)
    for start in range(0, len(uvs), _ROWS):
        part = uvs[start : start + _ROWS]
        away = np.abs(part[:, None] - known[None]).max(2)
        nearest = away.argmin(1)
        near = away[np.arange(len(part)), nearest] <= _UV_TOLERANCE
        result[start : start + len(part)] = np.where(near, vertex[nearest], -1)
    return result


def _fits(triangles: np.ndarray, vertex: np.ndarray, topology: Topology) -> bool:
    """Tell whether each triangle, its corners renamed by `vertex`, lies in a polygon of the topology."""
    count = topology.num_vertices
    sizes = topology.polygon_sizes.astype(np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    within = np.arange(len(starts)) - starts
    keys = []
    for step in range(1, int(sizes.max())):  # pair every corner with every other of its polygon
        other = starts + (within + step) % np.repeat(sizes, sizes)
        keys.append(topology.polygon_vertices * np.int64(count) + topology.polygon_vertices[other])
    corners = vertex[triangles]
    sides = corners * np.int64(count) + corners[:, [1, 2, 0]]
    return bool((corners >= 0).all() and np.isin(sides, np.concatenate(keys)).all())
