"""Reads scans of heads, meshes or point clouds, into the points and normals that `retopologize` takes.

Example:
    scan = read_scan("scan.ply", units="mm")
    head = pipe.retopologize(scan.points, scan.normals, align=True)
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError, OptionError, choose
from topos_rt.flow.settings import check_seed
from topos_rt.formats import cloud_reader as cloudfile
from topos_rt.formats import mesh_reader as meshfile
from topos_rt.formats.cloud_reader import CloudFile
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.ply_header import read_ply_header
from topos_rt.head.normals import unit_vectors
from topos_rt.scan.settings import MIN_POINTS
from topos_rt.scan.surface import Surface, estimate_normals, filled_normals

SUFFIXES = (*meshfile.SUFFIXES, ".npz")
POINTS = 50_000  # drawn from a mesh, or kept from a cloud
# Name -> metres.
INPUT_UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_TALLEST, _SMALLEST = 1.0, 0.03  # metres; a head outside this range is in other units
_USUAL = 0.1, 0.7  # metres; the size of a head, with or without shoulders
_READABLE = f"a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan in metres, ready for `HeadPipeline.retopologize`."""

    points: np.ndarray  # [P,3] float64, metres
    normals: np.ndarray  # [P,3] float64, unit length, outward
    surface: Surface  # as read, in metres; to measure against
    notes: tuple[str, ...] = ()  # changes that its owner should know of
    warnings: tuple[str, ...] = ()  # faults that it probably has


def read_scan(
    source: str | os.PathLike[str] | Any,
    *,
    units: str = "m",
    count: int = POINTS,
    seed: int = 0,
    limits: Limits = LIMITS,
) -> Scan:
    """Read a mesh or a point cloud of a head.

    Args:
        source: an OBJ, GLB, OFF, PLY or STL file, a PLY without faces, an .npz with `points` [P,3] and
            optionally `normals` [P,3], or a trimesh.Trimesh, Scene or PointCloud.
        units: the unit of length of the file: "m", "cm" or "mm".
        count: how many points to draw from a mesh, evenly by area, or to keep from a cloud; 16 to 50 million.
        seed: draws those points.
        limits: the largest sizes that a file may declare.

    Meshes may be open, non-manifold and in several parts; only their surface counts, not its order in the
    file. Their normals are those of the faces; a cloud without normals gets estimated ones. Where the normals
    point inwards on the whole, all are flipped.

    Raises:
        MeshInputError: the file is missing, empty, damaged, of another format or too large; it has no
            surface, too few points or NaN.
        OptionError: unknown units, or a count or seed out of range.
        MissingExtraError: trimesh or SciPy is needed but not installed.
    """
    metres = choose(units, INPUT_UNITS, "unit of length")
    count, seed = _checked_count(count), check_seed(seed)
    surface, notes = read_surface(source, metres, limits)
    samples = surface.scattered(count, seed)
    normals = samples.normals
    if normals is None:
        normals = estimate_normals(samples.points)
        notes.append("no normals in the file: estimated from neighbouring points")
    elif _look_inwards(samples.points, normals):
        normals = -normals
        notes.append("the surface faces inwards: turned inside out")
    if surface.is_cloud and len(surface.points) > count:
        notes.append(f"{count:,} of the points used")
    return Scan(samples.points, normals, surface, tuple(notes), tuple(_unlikely_size(surface, units)))


def read_surface(
    source: str | os.PathLike[str] | Any, metres: float = 1.0, limits: Limits = LIMITS
) -> tuple[Surface, list[str]]:
    """Return a mesh or a cloud, with its coordinates multiplied by `metres`, and notes on what was found.

    Sources and errors are those of `read_scan`.
    """
    notes: list[str] = []
    if not isinstance(source, str | os.PathLike):
        if hasattr(source, "vertices") and not hasattr(source, "faces"):
            return _cloud(CloudFile(*_array(source.vertices), len(source.vertices)), metres, notes, "cloud")
        return _meshed(source, metres, limits)
    path = Path(source)
    what = f"cannot use {path}"
    suffix = _checked_suffix(path, what)
    try:
        if suffix == ".npz":
            return _cloud(cloudfile.read_npz(path, what, limits), metres, notes, what)
        if suffix == ".ply":
            header = read_ply_header(path, what, limits)
            faces = header.count("face")
            if faces > limits.triangles:
                notes.append(f"{faces:,} faces, more than {limits.triangles:,}: only the vertices are used")
            if not header.has_faces or faces > limits.triangles:
                return _cloud(cloudfile.read_ply_points(path, header, what), metres, notes, what)
        return _meshed(path, metres, limits)
    except OSError as error:
        raise MeshInputError(what, got=error.strerror or error, expected="a readable file") from error


def _checked_count(count: int) -> int:
    try:
        number = -1 if isinstance(count, bool) else operator.index(count)
    except TypeError:
        number = -1
    if not MIN_POINTS <= number <= LIMITS.points:
        expected = f"a whole number from {MIN_POINTS} to {LIMITS.points:,}"
        raise OptionError("number of points", got=repr(count)[:40], expected=expected)
    return number


def _checked_suffix(path: Path, what: str) -> str:
    suffix = path.suffix.lower()
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MeshInputError(what, got="no such file", fix="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte inside the name
        reason = getattr(error, "strerror", None) or error
        raise MeshInputError(what, got=reason, expected="a readable file") from error
    meshfile.check_kind(suffix, status, what, SUFFIXES, _READABLE, "convert it to PLY or OBJ")
    return suffix


def _meshed(source: Any, metres: float, limits: Limits) -> tuple[Surface, list[str]]:
    found = meshfile.read_mesh(source, limits=limits)
    triangles = found.triangles
    limits.check("triangles", len(triangles), "mesh", "decimate it, or save its points as PLY")
    return Surface(found.positions.astype(np.float64) * metres, triangles), list(found.notes)


def _cloud(found: CloudFile, metres: float, notes: list[str], what: str) -> tuple[Surface, list[str]]:
    if found.total < MIN_POINTS:
        raise MeshInputError(what, got=f"{found.total} points", expected=f"{MIN_POINTS} or more")
    if not np.ptp(found.points, axis=0).any():
        raise MeshInputError(what, got="the same point each time", expected="the surface of a head")
    if len(found.points) < found.total:
        notes.append(f"{len(found.points):,} of {found.total:,} points read")
    normals = found.normals
    if normals is not None and not normals.any(1).all():
        bare = int(np.count_nonzero(~normals.any(1)))
        if bare == len(normals):
            notes.append("the normals have no length")
            normals = None
        else:
            notes.append(f"{bare:,} of {len(normals):,} normals have no length: these are estimated")
            normals = filled_normals(found.points, normals)
    normals = None if normals is None else unit_vectors(normals).astype(np.float64)
    return Surface(found.points * metres, np.zeros((0, 3), np.int64), normals), notes


def _array(vertices: Any) -> tuple[np.ndarray, None]:
    points = np.asarray(vertices, np.float64).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise MeshInputError("points", got="NaN or infinite values", expected="finite values")
    return points, None


def _look_inwards(points: np.ndarray, normals: np.ndarray) -> bool:
    middle = (points.min(0) + points.max(0)) / 2
    return float(np.einsum("nk,nk->", normals, points - middle)) < 0


def _unlikely_size(surface: Surface, units: str) -> list[str]:
    """Return a warning where the size is not that of a head, about 0.23 m tall in whatever direction."""
    size = surface.size
    if _SMALLEST <= size <= _TALLEST:
        return []
    plain = size / INPUT_UNITS[units]
    fits = [name for name, metres in INPUT_UNITS.items() if _USUAL[0] <= plain * metres <= _USUAL[1]]
    advice = f"; --input-units {fits[0]} would make it {plain * INPUT_UNITS[fits[0]]:.2g} m" if fits else ""
    return [f"{size:.3g} m across in units of {units}, where a head is about 0.23 m tall{advice}"]
