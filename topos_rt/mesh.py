"""What the pipeline returns: a `HeadMesh`, and the `Rig` that animates it.

Both are float32, metres, +Y up, facing +Z, right-handed, with counter-clockwise front faces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.files import write_atomic
from topos_rt.lod import reduced_head
from topos_rt.tensorfile import read_tensors, write_tensors
from topos_rt.topology import Topology

# Further out than any head in any unit; past float32's range a change of units would overflow.
_FARTHEST = 1e6
_UNIT_TOLERANCE = 1e-3
_UP = np.array([0.0, 1.0, 0.0], np.float32)
_RIG_ARRAYS: dict[str, type[np.generic]] = {
    "joint_parents": np.int32,
    "joint_positions": np.float32,
    "skin_joints": np.uint16,
    "skin_weights": np.float32,
    "shape_index": np.int32,
    "shape_delta": np.float32,
    "shape_offsets": np.int32,
}


@dataclass(frozen=True, eq=False)
class Rig:
    """Skeleton, skin weights and blendshapes of a topology with V vertices.

    Blendshapes are stored sparsely: shape s moves the vertices `shape_index[a:b]` by `shape_delta[a:b]`, with
    `a, b = shape_offsets[s : s + 2]`. Names are ARKit's ("jawOpen", "eyeBlinkLeft") where they mean the same.

    Raises MeshInputError where the parts do not fit together.
    """

    joint_names: tuple[str, ...]  # J names, all different
    joint_parents: np.ndarray  # [J] int32, -1 for a root; parents come before their children
    joint_positions: np.ndarray  # [J,3] float32, metres, in the bind pose of the template head
    skin_joints: np.ndarray  # [V,4] uint16
    skin_weights: np.ndarray  # [V,4] float32, >= 0, rows sum to one
    shape_names: tuple[str, ...]  # S names, all different
    shape_index: np.ndarray  # [K] int32 vertex ids, rising within a shape
    shape_delta: np.ndarray  # [K,3] float32, metres
    shape_offsets: np.ndarray  # [S+1] int32, from 0 to K

    def __post_init__(self) -> None:
        for name, dtype in _RIG_ARRAYS.items():
            object.__setattr__(self, name, _frozen(getattr(self, name), dtype, f"rig {name}"))
        object.__setattr__(self, "joint_names", tuple(self.joint_names))
        object.__setattr__(self, "shape_names", tuple(self.shape_names))
        self._check_skeleton()
        self._check_shapes()

    @property
    def num_vertices(self) -> int:
        return len(self.skin_joints)

    def shape(self, name: str) -> np.ndarray:
        """[V,3] float32 offsets, metres, of one blendshape. Raises MeshInputError for an unknown name."""
        if name not in self.shape_names:
            raise MeshInputError("unknown blendshape", got=repr(name),
                                 expected=f"one of: {', '.join(self.shape_names)}")
        number = self.shape_names.index(name)
        part = slice(*self.shape_offsets[number : number + 2])
        offsets = np.zeros((self.num_vertices, 3), np.float32)
        offsets[self.shape_index[part]] = self.shape_delta[part]
        return offsets

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        names = {"joints": self.joint_names, "shapes": self.shape_names}
        # One metadata entry: safetensors does not keep the order of several, and the bytes should repeat.
        write_tensors(path, {name: getattr(self, name) for name in _RIG_ARRAYS}, {"names": json.dumps(names)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Rig:
        """Read what `save` wrote.

        Raises BundleError for an unreadable or foreign file, MeshInputError for parts that do not fit.
        """
        tensors, metadata = read_tensors(path)
        try:
            names = json.loads(metadata["names"])
            arrays = {name: tensors[name] for name in _RIG_ARRAYS}
            return cls(joint_names=tuple(names["joints"]), shape_names=tuple(names["shapes"]), **arrays)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise BundleError(f"rig file {Path(path).name}", got=f"no valid {error}",
                              expected="a file written by Rig.save", fix="export the bundle again") from error

    def _check_skeleton(self) -> None:
        count, vertices = len(self.joint_names), len(self.skin_joints)
        _require_names(self.joint_names, "joint")
        _require(count > 0, "rig joints", "none", "one joint or more")
        _require_shape(self.joint_parents, (count,), "rig joint_parents")
        _require_shape(self.joint_positions, (count, 3), "rig joint_positions")
        _require_shape(self.skin_joints, (vertices, 4), "rig skin_joints")
        _require_shape(self.skin_weights, (vertices, 4), "rig skin_weights")
        order = (self.joint_parents >= -1) & (self.joint_parents < np.arange(count))
        _require(order.all(), "rig joint_parents", _first(self.joint_parents, ~order), "-1 or earlier joints")
        _require_finite(self.joint_positions, "rig joint_positions")
        known = self.skin_joints < count
        _require(known.all(), "rig skin_joints", _first(self.skin_joints, ~known), f"joint ids below {count}")
        _require_finite(self.skin_weights, "rig skin_weights")
        _require((self.skin_weights >= 0).all(), "rig skin_weights", "a negative weight", "weights >= 0")
        sums = self.skin_weights.sum(1)
        whole = np.abs(sums - 1) <= _UNIT_TOLERANCE
        _require(whole.all(), "rig skin_weights", f"a row sum of {_first(sums, ~whole)}", "row sums of 1")

    def _check_shapes(self) -> None:
        count, moved = len(self.shape_names), len(self.shape_index)
        _require_names(self.shape_names, "blendshape")
        _require_shape(self.shape_index, (moved,), "rig shape_index")
        _require_shape(self.shape_delta, (moved, 3), "rig shape_delta")
        _require_shape(self.shape_offsets, (count + 1,), "rig shape_offsets")
        steps = np.diff(self.shape_offsets)
        whole = self.shape_offsets[0] == 0 and self.shape_offsets[-1] == moved and (steps >= 0).all()
        _require(whole, "rig shape_offsets", "other values", f"numbers that rise from 0 to {moved}")
        known = (self.shape_index >= 0) & (self.shape_index < self.num_vertices)
        _require(known.all(), "rig shape_index", _first(self.shape_index, ~known),
                 f"vertex ids below {self.num_vertices}")
        shape = np.repeat(np.arange(count), steps)
        rising = (np.diff(self.shape_index) > 0) | (np.diff(shape) > 0)
        _require(rising.all(), "rig shape_index", "repeated or unsorted ids in a shape", "rising ids")
        _require_finite(self.shape_delta, "rig shape_delta")


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """One head. Vertex i means the same point of the head in every HeadMesh of a topology.

    `metadata` says how the head was made (seed, steps, solver, model, note on the weights) as JSON values; it
    goes into exported files. `timings` (seconds per stage) does not: the same seed gives the same bytes.

    Raises MeshInputError for wrong shapes or types, NaN or infinite values, normals not of unit length, no
    extent, a rig of another topology, or metadata that JSON cannot hold.
    """

    positions: np.ndarray  # [V,3] float32, metres, +Y up, facing +Z
    normals: np.ndarray  # [V,3] float32, unit length
    topology: Topology
    rig: Rig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vertices = self.topology.num_vertices
        for name in ("positions", "normals"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float32, name))
            _require_shape(getattr(self, name), (vertices, 3), name)
            _require_finite(getattr(self, name), name)
        extent = np.ptp(self.positions, axis=0)
        _require(bool(extent.any()), "positions", "the same point for every vertex", "a surface")
        lengths = np.linalg.norm(self.normals, axis=1)
        unit = np.abs(lengths - 1) <= _UNIT_TOLERANCE
        _require(unit.all(), "normals", f"one of length {_first(lengths, ~unit)}", "unit length",
                 "use topos_rt.mesh.unit_vectors or vertex_normals")
        if self.rig is not None and self.rig.num_vertices != vertices:
            raise MeshInputError("the rig", got=f"{self.rig.num_vertices} vertices",
                                 expected=f"{vertices}, as in the topology", fix="use the same bundle's rig")
        object.__setattr__(self, "metadata", _plain(self.metadata))
        object.__setattr__(self, "timings", {name: float(seconds) for name, seconds in self.timings.items()})

    def __repr__(self) -> str:
        rig = f"{len(self.rig.shape_names)} blendshapes" if self.rig else "no rig"
        return f"<HeadMesh: {len(self.positions)} vertices, {len(self.triangles)} triangles, {rig}>"

    @property
    def triangles(self) -> np.ndarray:
        """[F,3] int32 vertex ids, counter-clockwise; the same for every head of the topology."""
        return self.topology.triangles

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner [3], metres, of the axis-aligned box around the head."""
        return self.positions.min(0), self.positions.max(0)

    def lod(self, level: int) -> HeadMesh:
        """The head at a level of detail: 1 has half the triangles, 2 a quarter; 0 is the head itself.

        Its vertices are some of this head's, the same ones for every head of the topology; rig and UVs come
        along. Raises OptionError for a level that the topology does not have.
        """
        return reduced_head(self, level)

    def save(
        self, path: str | PathLike[str], format: str | None = None, *,
        units: str = "m", up: str = "y", rig: bool = True,
    ) -> None:
        """Write the head to a file, whole or not at all.

        path: where; its suffix names the format unless `format` does (the keys of `EXPORTERS`: "glb", "obj").
        units: "m" or "cm". up: "y" (facing +Z) or "z" (facing -Y). GLB takes only "m" and "y", glTF's own.
        rig: False leaves the blendshapes out.

        Raises OptionError for an unknown format or option, OutputError when the file cannot be written.
        """
        from topos_rt.exporters import EXPORTERS, ExportOptions, format_of

        export = EXPORTERS[format_of(path, format)]
        write_atomic(path, export(self, ExportOptions(units=units, up=up, rig=rig)))


def vertex_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals: the normalised sum of the cross products of the triangles at a vertex.

    positions: [V,3]; triangles: [F,3] int, counter-clockwise. Returns [V,3] float32 of unit length; vertices
    without triangles, and those whose triangles cancel out or have no area, get +Y.
    """
    corners = np.asarray(positions, np.float64)[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ids = np.asarray(triangles).ravel()
    sums = [np.bincount(ids, np.repeat(faces[:, axis], 3), len(positions)) for axis in range(3)]
    return unit_vectors(np.stack(sums, 1))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Rows [n,3] scaled to unit length, float32; rows without a direction (zero or not finite) become +Y."""
    vectors = np.asarray(vectors, np.float64)
    # Scaled by the largest entry first: the squares of tiny vectors would vanish.
    largest = np.abs(vectors).max(1, keepdims=True, initial=0.0)
    usable = np.isfinite(largest) & (largest > 0)
    scaled = np.where(usable, vectors, _UP) / np.where(usable, largest, 1.0)
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)


def _frozen(values: Any, dtype: type[np.generic], what: str) -> np.ndarray:
    """A read-only contiguous copy of the wanted type, which must be able to hold the values."""
    array = np.asarray(values)
    floating = np.issubdtype(dtype, np.floating)
    if array.dtype.kind not in ("fiu" if floating else "iu") and array.size:
        expected = np.dtype(dtype).name
        raise MeshInputError(what, got=f"dtype {array.dtype}", expected=expected, fix="convert it")
    if not floating and array.size:
        limits, low, high = np.iinfo(np.dtype(dtype)), int(array.min()), int(array.max())
        fits = limits.min <= low and high <= limits.max
        _require(fits, what, f"{low}..{high}", f"values that fit {np.dtype(dtype).name}")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused next
        copy = np.array(array, dtype, order="C")
    copy.setflags(write=False)
    return copy


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy with JSON types only; NumPy numbers become Python's."""
    try:
        text = json.dumps(dict(metadata), allow_nan=False, default=lambda value: value.item())
    except (TypeError, ValueError, AttributeError) as error:
        raise MeshInputError("metadata", got=f"a value JSON cannot hold ({error})",
                             expected="strings, finite numbers, booleans, lists, dictionaries") from error
    result: dict[str, Any] = json.loads(text)
    return result


def _first(values: np.ndarray, bad: np.ndarray) -> str:
    return f"{values[bad][0]:g}" if bad.any() else ""


def _require(
    ok: bool | np.bool_, what: str, got: str, expected: str, fix: str = "check the source of the mesh"
) -> None:
    if not ok:
        raise MeshInputError(what, got=got, expected=expected, fix=fix)


def _require_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    _require(array.shape == shape, what, f"shape {list(array.shape)}", f"{list(shape)}",
             "check that all parts describe the same head")


def _require_finite(array: np.ndarray, what: str) -> None:
    inside = np.abs(array) <= _FARTHEST  # false for NaN as well
    _require(inside.all(), what, _first(array, ~inside), f"finite numbers within {_FARTHEST:g}")


def _require_names(names: tuple[str, ...], kind: str) -> None:
    text = all(isinstance(name, str) and name for name in names)
    _require(text, f"rig {kind} names", "an empty one or one that is no string", "non-empty strings")
    _require(len(set(names)) == len(names), f"rig {kind} names", "a repeated name", "different names")
