"""Lay a photograph on a head that was made before, and read such a head back from its file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError, OptionError
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import ALL, LARGEST, FaceChoice, portraits
from topos_rt.faces.seen import with_face
from topos_rt.formats.gltf_reader import read_metadata
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.seams import split_seams
from topos_rt.head.atlas import laid
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.parts import parts_of
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import place_rig
from topos_rt.pictures.image import upright_picture
from topos_rt.pictures.sources import ImageSource, describe
from topos_rt.texture.stage import DEFAULT_SIZE, PROJECTED, TextureChoice, with_texture


def texture_head(
    head: HeadMesh | str | os.PathLike[str],
    image: ImageSource,
    *,
    model: str | os.PathLike[str] | Bundle = "mini",
    face: Any = LARGEST,
    texture_size: int = DEFAULT_SIZE,
    texture_format: str = "jpeg",
    finder: FaceFinder | None = None,
) -> HeadMesh:
    """Return a head with the texture of a photograph, of the same person or another.

    Args:
        head: a head of the model, or the file of one as `read_head` takes it.
        image: anything that `load_image` takes.
        model: whose head it is: "mini", the directory of a bundle, or a `Bundle`.
        face: "largest", or one of the faces that `find_faces` returns: a `Face`, or its number from 0.
        texture_size, texture_format: see `TextureChoice`.
        finder: finds the face; None opens one for this call.

    Raises:
        ImageError, OptionError: the image or an option cannot be used.
        FaceError: there is no face in the image, or it looks too far sideways.
        BundleError: the model has no atlas or landmark map.
        MeshInputError: the head is not one of the model, or is a level of detail.
    """
    choice = TextureChoice(PROJECTED, texture_size, texture_format)
    wanted = FaceChoice(face)
    if wanted.face == ALL:
        raise OptionError("face", got=repr(ALL), expected="one face, for there is one head")
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    choice.check(None, bundle.atlas)
    if not isinstance(head, HeadMesh):
        head = read_head(head, bundle)
    _check_full(head.topology, bundle.topology, "the head")
    picture = upright_picture(image)
    found = finder or FaceFinder.open()
    try:
        (portrait,) = portraits(picture, describe(image), found, wanted)
    finally:
        if finder is None:
            found.close()
    seen = dataclasses.replace(
        head, topology=bundle.topology, texture=None, metadata={**head.metadata, **portrait.facts()}
    )
    return with_texture(with_face(seen, portrait, bundle.landmarks), portrait, bundle, choice)


def read_head(path: str | os.PathLike[str], bundle: Bundle) -> HeadMesh:
    """Read a head of a bundle's topology from a GLB, glTF, OBJ or .head of topos_rt, and fit the rig to it.

    Heads in other units or axes than metres and +Y up are not turned back.

    Raises MeshInputError for a file that cannot be read, or that holds something else.
    """
    suffix = Path(path).suffix.lower()
    file = HeadMesh.load(path) if suffix == ".head" else read_mesh(path)
    what = f"cannot use the head {path}"
    topology, count = bundle.topology, bundle.topology.num_vertices
    if len(file.positions) < count:
        _refuse(what, f"{len(file.positions):,} vertices", count)
    known = [topology] if bundle.atlas is None else [topology, laid(topology, bundle.atlas)]
    sources = [np.arange(count), *(split_seams(one).source for one in known)]
    if not any(_begins(file.topology, source, topology) for source in sources):
        other = len(file.positions) in {len(source) for source in sources}
        _refuse(what, "other polygons" if other else f"{len(file.positions):,} vertices", count)
    positions = file.positions[:count]
    normals = vertex_normals(positions, topology.triangles) if file.normals is None else file.normals[:count]
    rig = None if bundle.rig is None else place_rig(bundle.rig, positions, bundle.manifest.frame)
    metadata = dict(file.metadata) if isinstance(file, HeadMesh) else {}
    if suffix in (".glb", ".gltf"):
        metadata = read_metadata(Path(path))
    parts = None if bundle.parts is None else parts_of(bundle.parts, positions, rig)
    return HeadMesh(positions, normals, topology, rig, metadata, parts=parts)


def _begins(found: Topology, source: np.ndarray, wanted: Topology) -> bool:
    """Tell whether a file begins with the topology, its vertex i being `source[i]`; parts may follow."""
    own = found.triangles.max(1) < len(source)
    apart = found.triangles[~own]
    if len(source) > found.num_vertices or (apart < len(source)).any():
        return False
    return np.array_equal(_in_order(source[found.triangles[own]]), _in_order(wanted.triangles))


def _in_order(triangles: np.ndarray) -> np.ndarray:
    """Return triangles with their corners and themselves sorted: files may list polygons in groups."""
    rows = np.sort(triangles, 1)
    return rows[np.lexsort(rows.T)]


def _check_full(found: Topology, wanted: Topology, what: str) -> None:
    same = found.num_vertices == wanted.num_vertices and np.array_equal(found.triangles, wanted.triangles)
    if not same:
        _refuse(what, f"{found.num_vertices:,} vertices, or other polygons", wanted.num_vertices)


def _refuse(what: str, got: str, count: int) -> None:
    raise MeshInputError(
        what,
        got=got,
        expected=f"a head of the model, with {count:,} vertices in its order",
        fix="name the model that made the head, and the full head rather than a level of detail",
    )
