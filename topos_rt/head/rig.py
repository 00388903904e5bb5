"""The `Rig` of a topology: skeleton, skin weights, blendshapes, and how they are fitted to a head.

Lengths are float32 metres, +Y up, facing +Z. `topos_rt/head/rig_fit.py` fits a rig to a head; docs/rig.md has
the maths.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, MeshInputError, did_you_mean
from topos_rt.support.arrays import Floats, Ints
from topos_rt.support.checks import first, frozen, require, require_finite, require_shape
from topos_rt.support.tensorfile import read_tensors, write_tensors

_UNIT_TOLERANCE = 1e-3
_ARRAYS: dict[str, type[np.generic]] = {
    "joint_parents": np.int32,
    "joint_positions": np.float32,
    "skin_joints": np.uint16,
    "skin_weights": np.float32,
    "shape_index": np.int32,
    "shape_delta": np.float32,
    "shape_offsets": np.int32,
}
BINDING_ARRAYS: dict[str, type[np.generic]] = {
    "template": np.float32,
    "joint_index": np.int32,
    "joint_weight": np.float32,
    "joint_offsets": np.int32,
    "contact_pairs": np.int32,
    "contact_offsets": np.int32,
    "parts": np.uint8,
}
_UNPLAIN = re.compile(r"[\s.:/\\\[\]]")
_BINDING = "binding."  # prefix of the names of a binding's arrays in a file


@dataclass(frozen=True, eq=False)
class Binding:
    """The head that a rig was made on, and what `topos_rt.head.rig_fit.fit_rig` needs to carry it to another.

    Joint j lies at the sum of `joint_weight[a:b]` times the vertices `joint_index[a:b]`, with
    `a, b = joint_offsets[j : j + 2]`; its weights sum to one. The contacts of shape s are the rows of
    `contact_pairs` that `contact_offsets` gives in the same way: pairs of vertices that are apart at rest and
    that the shape brings together, such as the lids in a blink.

    Raises MeshInputError where the parts do not fit together.
    """

    template: np.ndarray  # [V,3] float32, metres
    joint_index: np.ndarray  # [R] int32 vertex ids
    joint_weight: np.ndarray  # [R] float32, sum to one for each joint; may be negative
    joint_offsets: np.ndarray  # [J+1] int32, from 0 to R
    contact_pairs: np.ndarray  # [C,2] int32 vertex ids
    contact_offsets: np.ndarray  # [S+1] int32, from 0 to C
    parts: np.ndarray  # [V] uint8; 0: skin; k > 0: part k, which moves as one piece (eyeballs, tongue, teeth)

    def __post_init__(self) -> None:
        for name, dtype in BINDING_ARRAYS.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, f"rig {name}"))
        vertices = len(self.template)
        require_shape(self.template, (vertices, 3), "rig template")
        require_finite(self.template, "rig template")
        require(
            vertices > 0 and bool(np.ptp(self.template, axis=0).any()),
            "rig template",
            "the same point for every vertex",
            "a surface",
        )
        require_shape(self.parts, (vertices,), "rig parts")
        require((self.parts == 0).any(), "rig parts", "a part at every vertex", "some skin, part 0")
        require_shape(self.joint_index, (len(self.joint_weight),), "rig joint_index")
        require_shape(self.contact_pairs, (len(self.contact_pairs), 2), "rig contact_pairs")
        _require_ids(self.joint_index, vertices, "rig joint_index")
        _require_ids(self.contact_pairs, vertices, "rig contact_pairs")
        _require_offsets(self.joint_offsets, len(self.joint_index), "rig joint_offsets")
        _require_offsets(self.contact_offsets, len(self.contact_pairs), "rig contact_offsets")
        require_finite(self.joint_weight, "rig joint_weight")
        require(
            (np.diff(self.joint_offsets) > 0).all(),
            "rig joint_offsets",
            "a joint without vertices",
            "one vertex or more for each joint",
        )
        sums = np.add.reduceat(self.joint_weight.astype(np.float64), self.joint_offsets[:-1])
        whole = np.abs(sums - 1) <= _UNIT_TOLERANCE
        require(whole.all(), "rig joint_weight", f"a sum of {first(sums, ~whole)}", "sums of 1")

    def joints(self, positions: np.ndarray) -> np.ndarray:
        """Return the joints of a head with vertices [V,3]: [J,3] float32."""
        moved = positions[self.joint_index].astype(np.float64) * self.joint_weight[:, None]
        return np.add.reduceat(moved, self.joint_offsets[:-1]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Rig:
    """The skeleton, skin weights and blendshapes of a topology with V vertices.

    Blendshapes are stored sparsely: shape s moves the vertices `shape_index[a:b]` by `shape_delta[a:b]`, with
    `a, b = shape_offsets[s : s + 2]`. Names are ARKit's ("jawOpen", "eyeBlinkLeft") where they mean the same.

    The rig of a bundle is made for the head of its `binding`. The rig of a `HeadMesh` has been fitted to that
    head and has no binding, but knows its `source`. A rig without a binding cannot be fitted and is used
    unchanged.

    Joints get names without the characters that other programs take out: "eye.L" becomes "eye_L", see
    `plain_names`.

    Raises MeshInputError where the parts do not fit together.
    """

    joint_names: tuple[str, ...]  # J names, all different
    joint_parents: Ints  # [J] int32, -1 for a root; parents come before their children
    joint_positions: Floats  # [J,3] float32, metres, in the bind pose of the template head
    skin_joints: np.ndarray  # [V,4] uint16
    skin_weights: Floats  # [V,4] float32, >= 0, rows sum to one
    shape_names: tuple[str, ...]  # S names, all different
    shape_index: Ints  # [K] int32 vertex ids, rising within a shape
    shape_delta: Floats  # [K,3] float32, metres
    shape_offsets: Ints  # [S+1] int32, from 0 to K
    binding: Binding | None = None
    source: Rig | None = None  # the bundle's rig that this one was fitted from

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, f"rig {name}"))
        object.__setattr__(self, "joint_names", plain_names(self.joint_names))
        object.__setattr__(self, "shape_names", tuple(self.shape_names))
        self._check_skeleton()
        self._check_shapes()
        if self.binding is not None:
            self._check_binding(self.binding)

    def __repr__(self) -> str:
        parts = f"{len(self.joint_names)} joints, {len(self.shape_names)} blendshapes"
        return f"<Rig: {parts}, {self.num_vertices} vertices>"

    @property
    def num_vertices(self) -> int:
        return len(self.skin_joints)

    def shape(self, name: str) -> Floats:
        """Return the offsets [V,3] float32, metres, of one blendshape.

        Raises MeshInputError for an unknown name.
        """
        if name not in self.shape_names:
            raise MeshInputError(
                "unknown blendshape",
                got=repr(name),
                expected=f"one of: {', '.join(self.shape_names)}",
                fix=did_you_mean(name, self.shape_names),
            )
        number = self.shape_names.index(name)
        part = slice(*self.shape_offsets[number : number + 2])
        offsets = np.zeros((self.num_vertices, 3), np.float32)
        offsets[self.shape_index[part]] = self.shape_delta[part]
        return offsets

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        # One metadata entry: safetensors does not keep the order of several, and bytes must be reproducible.
        write_tensors(path, self.to_tensors(), {"names": json.dumps(self.names())})

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a file, by name."""
        tensors = {name: getattr(self, name) for name in _ARRAYS}
        if self.binding is not None:
            tensors |= {_BINDING + name: getattr(self.binding, name) for name in BINDING_ARRAYS}
        return tensors

    def names(self) -> dict[str, Sequence[str]]:
        """Return the names of joints and blendshapes, as a file has them in JSON."""
        return {"joints": self.joint_names, "shapes": self.shape_names}

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Rig:
        """Read what `save` wrote.

        Raises BundleError for a file that cannot be read or is not a rig, MeshInputError for parts that do
        not fit together.
        """
        tensors, metadata = read_tensors(path)
        return cls.from_tensors(tensors, metadata.get("names", ""), f"rig file {Path(path).name}")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], names_json: str, what: str) -> Rig:
        """Return the rig that `to_tensors` and `names`, as JSON, describe.

        Raises BundleError for anything else, MeshInputError for parts that do not fit together.
        """
        try:
            names = _read_names(names_json)
            arrays = {name: tensors[name] for name in _ARRAYS}
            binding = None
            if any(name.startswith(_BINDING) for name in tensors):
                binding = Binding(**{name: tensors[_BINDING + name] for name in BINDING_ARRAYS})
            parts: dict[str, Any] = {"binding": binding, **arrays}
            return cls(joint_names=names["joints"], shape_names=names["shapes"], **parts)
        except (KeyError, TypeError) as error:
            raise BundleError(
                what,
                got=f"no valid {error}",
                expected="a file written by Rig.save",
                fix="export the bundle again",
            ) from error

    def _check_skeleton(self) -> None:
        count, vertices = len(self.joint_names), len(self.skin_joints)
        _require_names(self.joint_names, "joint")
        require(count > 0, "rig joints", "none", "one joint or more")
        require_shape(self.joint_parents, (count,), "rig joint_parents")
        require_shape(self.joint_positions, (count, 3), "rig joint_positions")
        require_shape(self.skin_joints, (vertices, 4), "rig skin_joints")
        require_shape(self.skin_weights, (vertices, 4), "rig skin_weights")
        order = (self.joint_parents >= -1) & (self.joint_parents < np.arange(count))
        require(order.all(), "rig joint_parents", first(self.joint_parents, ~order), "-1 or earlier joints")
        require_finite(self.joint_positions, "rig joint_positions")
        known = self.skin_joints < count
        require(known.all(), "rig skin_joints", first(self.skin_joints, ~known), f"joint ids below {count}")
        require_finite(self.skin_weights, "rig skin_weights")
        require((self.skin_weights >= 0).all(), "rig skin_weights", "a negative weight", "weights >= 0")
        sums = self.skin_weights.sum(1)
        whole = np.abs(sums - 1) <= _UNIT_TOLERANCE
        require(whole.all(), "rig skin_weights", f"a row sum of {first(sums, ~whole)}", "row sums of 1")

    def _check_shapes(self) -> None:
        count, moved = len(self.shape_names), len(self.shape_index)
        _require_names(self.shape_names, "blendshape")
        require_shape(self.shape_index, (moved,), "rig shape_index")
        require_shape(self.shape_delta, (moved, 3), "rig shape_delta")
        require_shape(self.shape_offsets, (count + 1,), "rig shape_offsets")
        _require_offsets(self.shape_offsets, moved, "rig shape_offsets")
        _require_ids(self.shape_index, self.num_vertices, "rig shape_index")
        shape = np.repeat(np.arange(count), np.diff(self.shape_offsets))
        rising = (np.diff(self.shape_index) > 0) | (np.diff(shape) > 0)
        require(rising.all(), "rig shape_index", "repeated or unsorted ids in a shape", "rising ids")
        require_finite(self.shape_delta, "rig shape_delta")

    def _check_binding(self, binding: Binding) -> None:
        require_shape(binding.template, (self.num_vertices, 3), "rig template")
        require_shape(binding.joint_offsets, (len(self.joint_names) + 1,), "rig joint_offsets")
        require_shape(binding.contact_offsets, (len(self.shape_names) + 1,), "rig contact_offsets")


def plain_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names without dots, colons, slashes, brackets and spaces, each of which becomes "_".

    Those have a meaning in three.js, USD or Unity, which take them out or replace them. Names that would
    become the same get a number: "eye.L" and "eye_L" become "eye_L_2" and "eye_L".
    """
    given = list(names)
    taken, found = {name for name in given if isinstance(name, str)}, []
    for name in given:
        plain = base = _UNPLAIN.sub("_", name) if isinstance(name, str) else name
        number = 2
        while plain != name and plain in taken:
            plain, number = f"{base}_{number}", number + 1
        taken.add(plain)
        found.append(plain)
    return tuple(found)


def _read_names(text: str) -> dict[str, tuple[str, ...]]:
    """Read the names of joints and blendshapes. Raises KeyError, naming what is wrong, for anything else."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also for numbers of thousands of digits
        raise KeyError("names") from error
    for kind in ("joints", "shapes"):
        if not isinstance(tree, dict) or not isinstance(tree.get(kind), list):
            raise KeyError(kind)
    return {kind: tuple(tree[kind]) for kind in ("joints", "shapes")}


def _require_offsets(offsets: np.ndarray, end: int, what: str) -> None:
    rising = offsets.ndim == 1 and len(offsets) > 0 and bool((np.diff(offsets) >= 0).all())
    whole = rising and offsets[0] == 0 and offsets[-1] == end
    require(whole, what, "other values", f"numbers that rise from 0 to {end}")


def _require_ids(ids: np.ndarray, limit: int, what: str) -> None:
    known = (ids >= 0) & (ids < limit)
    require(known.all(), what, first(ids, ~known), f"vertex ids below {limit}")


def _require_names(names: tuple[str, ...], kind: str) -> None:
    text = all(isinstance(name, str) and name and name.isprintable() for name in names)
    require(text, f"rig {kind} names", "one that is empty or not printable", "non-empty strings")
    require(len(set(names)) == len(names), f"rig {kind} names", "a repeated name", "different names")


def reduced_rig(rig: Rig, vertices: np.ndarray) -> Rig:
    """Return a fitted rig on a subset of its vertices: joints stay, skin and shapes are taken by index.

    vertices: [n] ids, rising.
    """
    new = np.full(rig.num_vertices, -1, np.int32)
    new[vertices] = np.arange(len(vertices), dtype=np.int32)
    moved = new[rig.shape_index]
    kept = moved >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return dataclasses.replace(
        rig,
        skin_joints=rig.skin_joints[vertices],
        skin_weights=rig.skin_weights[vertices],
        shape_index=moved[kept],
        shape_delta=rig.shape_delta[kept],
        shape_offsets=before[rig.shape_offsets].astype(np.int32),
        binding=None,
        source=None,
    )
