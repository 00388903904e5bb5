"""Many heads of one topology: what they share once, in a .base file, and the rest of each, in .head files.

Both are safetensors files. NAME.base has the topology and the model's rig, and is named after the hash of its
contents; the kit of the parts, if there is one, is there, too. A .head has `positions` [V,3] float32, metres;
`normals` [V,2] int8, in octahedral form (Cigolle et al. 2014); `placed` [m,3], where teeth and lashes lie, if
that does not follow from the positions; the pictures of its texture, if it has one, as the bytes of their
files; and, in the one entry "head" of its metadata, JSON: the name of its base, the metadata, the expression
and what is known of the texture. Rig and parts are fitted again when a head is read. docs/outputs.md has the
layout.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.textures import texture_of, texture_tensors
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PartKit
from topos_rt.head.parts import Parts, parts_of
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.texture import Texture
from topos_rt.head.topology import Topology
from topos_rt.support.tensorfile import read_tensors, tensor_bytes

_TOPOLOGY, _RIG, _TEXTURE, _PARTS = "topology.", "rig.", "texture.", "parts."
_PLACED, _PART_RIG = "placed", "part_rig."  # of parts that do not follow from the head
_VERSION = 1
_EXPECTED = "a .head file that HeadMesh.save wrote, with its .base beside it"


def write_head(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return one file of a head with what it would share with others. Raises what `head_files` raises."""
    own, shared, about = _parts(mesh, options or ExportOptions())
    return tensor_bytes(own | shared, {"head": _json(about)})


def head_files(mesh: HeadMesh, options: ExportOptions, stem: str) -> dict[str, bytes]:
    """Return the files HASH.base and STEM.head.

    Raises OptionError for units, axes and a skeleton or blendshapes of one's own, since the head is stored as
    it is; all of these can be chosen once it is read.
    """
    own, shared, about = _parts(mesh, options)
    base = tensor_bytes(shared, {"base": _json({"version": _VERSION, **about.pop("base")})})
    name = f"{hashlib.sha256(base).hexdigest()[:16]}.base"
    return {name: base, f"{stem}.head": tensor_bytes(own, {"head": _json(about | {"base": name})})}


def read_head(path: str | PathLike[str]) -> HeadMesh:
    """Read what `HeadMesh.save` wrote into a .head file; the .base lies beside it.

    Positions, metadata and rig are those that were saved; normals are off by a degree at most, and colours of
    a texture by what its format loses. Heads of one base share their topology and skin in memory.

    Raises MeshInputError for a file that cannot be read, or that lacks its base.
    """
    path = Path(path)
    what = f"cannot read {path.name}"
    tensors, about = _read(path, "head", what)
    try:
        if isinstance(about["base"], str):
            name = about["base"]
            if Path(name).name != name or Path(name).suffix != ".base":
                raise ValueError(f"base {name[:40]!r}")
            topology, rig, kit = _base(path.with_name(name), what)
        else:
            topology, rig, kit = _shared(tensors, about["base"], what)
        positions, packed = tensors["positions"], tensors["normals"]
        if packed.dtype != np.int8 or packed.shape != (len(positions), 2):
            raise ValueError(f"normals of shape {list(packed.shape)}")
        fitted = rig if rig is None or rig.binding is None else fit_rig(rig, positions)
        head = HeadMesh(
            positions,
            from_octahedron(packed),
            topology,
            fitted,
            about["metadata"],
            expression=about["expression"],
            texture=_texture(tensors, about.get("texture")),
            parts=None if kit is None else _placed(kit, positions, fitted, tensors, about),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, MeshInputError):
            raise
        raise MeshInputError(what, got=f"no valid {error}", expected=_EXPECTED) from error
    return head


def _parts(
    mesh: HeadMesh, options: ExportOptions
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a head, those it shares with others, and what the JSON says of both."""
    options.refuse_rig("head")
    options.refuse_quantized("head")
    options.refuse_placing("head")
    rig = _model_rig(mesh) if options.rig else None
    shared = {_TOPOLOGY + name: array for name, array in mesh.topology.to_tensors().items()}
    if rig is not None:
        shared |= {_RIG + name: array for name, array in rig.to_tensors().items()}
    base: dict[str, Any] = {
        "num_vertices": mesh.topology.num_vertices,
        "rig": rig and json.dumps(rig.names()),
    }
    parts = options.parts_of(mesh)
    if parts is not None:
        shared |= {_PARTS + name: array for name, array in parts.kit.to_tensors().items()}
        base["parts"] = parts.kit.names()
    about = {
        "version": _VERSION,
        "base": base,
        "metadata": dict(mesh.metadata),
        "expression": dict(mesh.expression),
    }
    own = {"positions": mesh.positions, "normals": to_octahedron(mesh.normals)}
    if parts is not None and not _follows(parts, mesh.positions):
        own[_PLACED] = parts.positions
        if parts.rig is not None:
            own |= {_PART_RIG + name: array for name, array in parts.rig.to_tensors().items()}
            about["part_rig"] = json.dumps(parts.rig.names())
    if mesh.texture is not None:
        own |= {_TEXTURE + name: array for name, array in texture_tensors(mesh.texture).items()}
        about["texture"] = {"metadata": dict(mesh.texture.metadata), "format": mesh.texture.format}
    return own, shared, about


def _follows(parts: Parts, head: np.ndarray) -> bool:
    """Tell whether a head's vertices [V,3] say where its parts lie, as those of a pose or a level do not."""
    kit = parts.kit
    return kit.last_vertex < len(head) and np.array_equal(kit.placed(head), parts.positions)


def _placed(
    kit: PartKit, head: np.ndarray, rig: Rig | None, tensors: dict[str, np.ndarray], about: dict[str, Any]
) -> Parts:
    """Return the parts of a head; those that do not follow from it lie where the file says."""
    if _PLACED in tensors:
        stored = _under(_PART_RIG, tensors)
        own = Rig.from_tensors(stored, about["part_rig"], "rig of the parts") if stored else None
        return Parts(kit, tensors[_PLACED], own)
    if kit.last_vertex >= len(head):
        raise ValueError(f"place of parts at vertex {kit.last_vertex} of {len(head)}")
    return parts_of(kit, head, rig)


def _texture(tensors: dict[str, np.ndarray], about: Any) -> Texture | None:
    found = _under(_TEXTURE, tensors)
    if about is None and not found:
        return None
    return texture_of(found, about["metadata"], about["format"])


def _model_rig(mesh: HeadMesh) -> Rig | None:
    """Return the rig from which a head's own can be had again: the model's or, failing that, its own."""
    rig = mesh.rig
    if rig is None or rig.source is None:
        return rig
    again = fit_rig(rig.source, mesh.positions)
    own, others = rig.to_tensors(), again.to_tensors()
    same = again.names() == rig.names() and all(np.array_equal(others[name], own[name]) for name in others)
    return rig.source if same else rig


@lru_cache(maxsize=4)
def _base_of(path: str, _size: int, _changed: int) -> tuple[Topology, Rig | None, PartKit | None]:
    what = f"cannot read {Path(path).name}"
    data = Path(path).read_bytes()
    if not Path(path).name.startswith(hashlib.sha256(data).hexdigest()[:16]):
        raise MeshInputError(what, got="contents that have changed", expected=_EXPECTED, fix="copy it again")
    tensors, about = _read(Path(path), "base", what)
    return _shared(tensors, about, what)


def _base(path: Path, what: str) -> tuple[Topology, Rig | None, PartKit | None]:
    """Return what a .base file holds; the last ones that were read are kept."""
    try:
        status = path.stat()
        return _base_of(str(path.resolve()), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise MeshInputError(
            what,
            got=f"no {path.name} beside it ({error.strerror})",
            expected=_EXPECTED,
            fix="copy the .base file too",
        ) from error


def _shared(
    tensors: dict[str, np.ndarray], about: Any, what: str
) -> tuple[Topology, Rig | None, PartKit | None]:
    topology = Topology.from_tensors(_under(_TOPOLOGY, tensors), about, what)
    try:
        rig = None if about["rig"] is None else Rig.from_tensors(_under(_RIG, tensors), about["rig"], what)
        told = about.get("parts")
        kit = None if told is None else PartKit.from_tensors(_under(_PARTS, tensors), told, what)
        return topology, rig, kit
    except BundleError as error:
        raise MeshInputError(what, got=error.got, expected=_EXPECTED) from error


def _under(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _read(path: Path, key: str, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a file and the JSON at one key of its metadata."""
    try:
        tensors, metadata = read_tensors(path)
    except BundleError as error:
        raise MeshInputError(what, got=error.got, expected=_EXPECTED) from error
    try:
        about = json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError) as error:
        raise MeshInputError(what, got="metadata that is no JSON", expected=_EXPECTED) from error
    if not isinstance(about, dict) or about.get("version") != _VERSION:
        found = about.get("version") if isinstance(about, dict) else None
        raise MeshInputError(
            what, got=f"version {str(found)[:20]}", expected=f"version {_VERSION} of {_EXPECTED}"
        )
    return tensors, about


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def to_octahedron(vectors: np.ndarray) -> np.ndarray:
    """Return unit vectors [n,3] as points of an unfolded octahedron [n,2], int8 in -127..127."""
    # Points of the rim stand for the same vector in pairs: the second turn settles which is taken.
    return _unfolded(from_octahedron(_unfolded(vectors)))


def _unfolded(vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float64)
    x, y, z = (values / np.abs(values).sum(1, keepdims=True)).T
    return np.rint(_folded(np.stack([x, y], 1), z) * 127).astype(np.int8)


def _folded(flat: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return points [n,2] of an octahedron, those of its lower half (z [n] < 0) turned over its rim."""
    over = (1 - np.abs(flat[:, ::-1])) * np.where(flat < 0, -1.0, 1.0)
    return np.where(z[:, None] < 0, over, flat)


def from_octahedron(packed: np.ndarray) -> np.ndarray:
    """Return the unit vectors [n,3] float64 that `to_octahedron` packed."""
    flat = np.clip(packed.astype(np.float64) / 127, -1, 1)
    z = 1 - np.abs(flat).sum(1)
    vectors = np.concatenate([_folded(flat, z), z[:, None]], 1)
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
