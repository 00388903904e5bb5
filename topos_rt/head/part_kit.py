"""The `PartKit` of a topology: teeth and lashes that lie beside its vertices, and how a head places them.

Each vertex of a part is a fixed weighted sum of vertices of the head, its anchors. The sums repeat every
affine map of the head, and were fitted to MakeHuman's own parts over many shapes of its heads; `python -m
export parts` makes them. docs/texture.md has the errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.support.arrays import product
from topos_rt.support.checks import first, frozen, require, require_finite, require_shape
from topos_rt.support.pixels import square_pixels
from topos_rt.support.similarity import fit_similarity
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors, write_tensors


@dataclass(frozen=True)
class Piece:
    """What is the same for all vertices of a part."""

    material: str  # of MATERIALS
    follows: bool  # its blendshapes are the sums of its anchors'; else they are the kit's motions
    joint: str | None = (
        None  # of `topos_rt.head.skeleton.HUMANOID`: holds it; None takes the skin of the head
    )


# The parts in their order in a kit, and the materials of a head with its parts.
PIECES = {
    "upper_teeth": Piece("teeth", follows=False, joint="head"),
    "lower_teeth": Piece("teeth", follows=False, joint="jaw"),
    "left_upper_lashes": Piece("lashes", follows=True),
    "left_lower_lashes": Piece("lashes", follows=True),
    "right_upper_lashes": Piece("lashes", follows=True),
    "right_lower_lashes": Piece("lashes", follows=True),
}
SURFACES = ("skin", "eyes", "mouth")
PART_MATERIALS = ("teeth", "lashes")
_PICTURE = (64, 2048)  # sides that a kit's picture may have
_MOST = 1 << 16  # vertices: as many as 16-bit indices reach
_ARRAYS: dict[str, type[np.generic]] = {
    "anchors": np.int32,
    "weights": np.float16,
    "pieces": np.uint8,
    "holders": np.int32,
    "quads": np.uint16,
    "uvs": np.float32,
    "rest": np.float32,
    "motions": np.float32,
    "motion_pieces": np.uint8,
    "surfaces": np.uint8,
    "head_shade": np.uint8,
    "shade": np.uint8,
    "picture": np.uint8,
}


@dataclass(frozen=True, eq=False)
class PartKit:
    """The parts of a topology: m vertices in the pieces of PIECES, and what places and moves them.

    A motion is the affine map [A|b] that takes a piece at rest to where one blendshape moves it, on the mean
    head in metres. Raises MeshInputError where the arrays do not fit together.
    """

    anchors: np.ndarray  # [P,k] int32: vertices of the head, for each piece
    weights: np.ndarray  # [m,k] float16: of the anchors of a vertex's piece; rows sum to one
    pieces: np.ndarray  # [m] uint8, rising: the piece of each vertex
    holders: np.ndarray  # [m] int32: the vertex of the head whose skin weights each vertex takes
    quads: np.ndarray  # [q,4] uint16, counter-clockwise, each within one piece, pieces in order
    uvs: np.ndarray  # [m,2] float32, origin bottom left, within 0..1
    rest: np.ndarray  # [m,3] float32: the parts of the mean head, metres
    motion_shapes: tuple[str, ...]  # the blendshape of each motion
    motion_pieces: np.ndarray  # [n] uint8: the piece of each motion
    motions: np.ndarray  # [n,3,4] float32
    surfaces: np.ndarray  # [U] uint8: which of SURFACES each UV of the topology belongs to
    # How much light reaches a vertex with the mouth open, 255 for all: viewers of files may draw no shadows.
    # On eyes, which are lit, it draws an iris for heads without a texture.
    head_shade: np.ndarray  # [V] uint8: the vertices of the head
    shade: np.ndarray  # [m] uint8
    picture: np.ndarray  # [b] uint8: the colours and the coverage of the parts, a square PNG, RGBA in sRGB
    source: str = ""  # where the parts come from, and their licence

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, f"parts {name}"))
        object.__setattr__(self, "motion_shapes", tuple(self.motion_shapes))
        count, moves = len(self.pieces), len(self.motion_shapes)
        require(0 < count < _MOST, "parts", f"{count} vertices", f"1 to {_MOST - 1}")
        k = self.anchors.shape[1] if self.anchors.ndim == 2 else 0
        shapes = {
            "anchors": (len(PIECES), k),
            "weights": (count, k),
            "pieces": (count,),
            "holders": (count,),
            "quads": (len(self.quads), 4),
            "uvs": (count, 2),
            "rest": (count, 3),
            "motions": (moves, 3, 4),
            "motion_pieces": (moves,),
            "surfaces": (len(self.surfaces),),
            "head_shade": (len(self.head_shade),),
            "shade": (count,),
            "picture": (self.picture.size,),
        }
        for name, shape in shapes.items():
            require_shape(getattr(self, name), shape, f"parts {name}")
        require(k > 0, "parts anchors", "none", "one anchor or more for each piece")
        for name in ("weights", "uvs", "rest", "motions"):
            require_finite(getattr(self, name).astype(np.float32), f"parts {name}")
        sums = self.weights.astype(np.float64).sum(1)
        whole = np.abs(sums - 1) < 0.02
        require(whole.all(), "parts weights", f"a row sum of {first(sums, ~whole)}", "row sums of 1")
        inside = self.uvs.size == 0 or bool((self.uvs.min() >= 0) & (self.uvs.max() <= 1))
        require(inside, "parts uvs", "points outside", "0..1")
        for name in ("anchors", "holders"):
            low = int(getattr(self, name).min())
            require(low >= 0, f"parts {name}", str(low), "vertex ids of the head")
        self._check_quads()
        for name, end in (
            ("pieces", len(PIECES)),
            ("motion_pieces", len(PIECES)),
            ("surfaces", len(SURFACES)),
        ):
            last = int(getattr(self, name).max(initial=0))
            require(last < end, f"parts {name}", str(last), f"0..{end - 1}")
        rising = bool((np.diff(self.pieces.astype(int)) >= 0).all())
        require(rising, "parts pieces", "unsorted numbers", "the vertices of each piece together, in order")
        named = all(isinstance(name, str) and name.isprintable() for name in self.motion_shapes)
        require(named, "parts motions", "a blendshape without a name", "names")

    def _check_quads(self) -> None:
        count = len(self.pieces)
        require(len(self.quads) > 0, "parts quads", "none", "one or more")
        known = self.quads < count
        require(known.all(), "parts quads", first(self.quads, ~known), f"vertex ids below {count}")
        owner = self.pieces[self.quads]
        together = bool((owner == owner[:, :1]).all()) and bool((np.diff(owner[:, 0].astype(int)) >= 0).all())
        require(
            together, "parts quads", "one of several pieces, or out of order", "those of a piece together"
        )

    def __repr__(self) -> str:
        return f"<PartKit: {len(self.pieces)} vertices, {len(self.quads)} quads>"

    @property
    def last_vertex(self) -> int:
        """The largest vertex of the head that anything refers to."""
        return int(max(self.anchors.max(), self.holders.max()))

    @cached_property
    def triangles(self) -> np.ndarray:
        """The triangles [2q,3] int32 of the quads, two for each."""
        return np.ascontiguousarray(self.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3), np.int32)

    def span(self, piece: int) -> slice:
        """Return which vertices a piece has."""
        low, high = np.searchsorted(self.pieces, [piece, piece + 1]).tolist()
        return slice(low, high)

    def quads_of(self, material: str) -> np.ndarray:
        """Return the quads [n,4] of one of PART_MATERIALS."""
        wanted = [number for number, piece in enumerate(PIECES.values()) if piece.material == material]
        found: np.ndarray = self.quads[np.isin(self.pieces[self.quads[:, 0]], wanted)]
        return found

    @cached_property
    def pixels(self) -> np.ndarray:
        """The picture, [S,S,4] uint8 sRGB and coverage. Raises BundleError for a damaged one."""
        try:
            found = square_pixels(self.picture.tobytes(), ("PNG",), "RGBA", _PICTURE)
        except ValueError as error:
            expected = f"a square RGBA picture of {_PICTURE[0]} to {_PICTURE[1]} pixels"
            raise BundleError("picture of the parts", got=error, expected=expected, fix=AGAIN) from error
        found.setflags(write=False)
        return found

    def placed(self, head: np.ndarray) -> np.ndarray:
        """Return where the parts lie on a head with vertices [V,3], [m,3] float32."""
        return self.summed(head.astype(np.float64)).astype(np.float32)

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted sums of values [V,...] at the anchors, [m,...] float64."""
        out = np.zeros((len(self.pieces), *values.shape[1:]))
        for piece, ids in enumerate(self.anchors):
            part = self.span(piece)
            own = values[ids].reshape(len(ids), -1)
            middle = own.mean(0)  # the rest is small, and so are the errors of float16
            sums = product(self._wide[part], own - middle) + middle
            out[part] = sums.reshape(-1, *values.shape[1:])
        return out

    @cached_property
    def _wide(self) -> np.ndarray:
        return self.weights.astype(np.float64)

    def moved(self, positions: np.ndarray, motion: int) -> np.ndarray:
        """Return the offsets [n,3] float64, metres, that a motion gives the vertices of its piece.

        positions: [m,3] of all parts. The motion turns and grows with the piece. Raises MeshInputError where
        all vertices of the piece coincide.
        """
        part = self.span(int(self.motion_pieces[motion]))
        rest, matrix = self.rest[part].astype(np.float64), self.motions[motion].astype(np.float64)
        own = fit_similarity(rest, positions[part].astype(np.float64))
        offsets = product(rest, matrix[:, :3].T) + matrix[:, 3] - rest
        return own.normals(offsets) * own.scale

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        write_tensors(path, self.to_tensors(), {"parts": self.names()})

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a file, by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def names(self) -> str:
        """Return what a file says in JSON beside its arrays."""
        told = {"pieces": list(PIECES), "motion_shapes": list(self.motion_shapes), "source": self.source}
        return json.dumps(told)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PartKit:
        """Read what `save` wrote. Raises BundleError for anything else."""
        tensors, metadata = read_tensors(path)
        return cls.from_tensors(tensors, metadata.get("parts", ""), f"file of the parts {Path(path).name}")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], names_json: str, what: str) -> PartKit:
        """Return the parts that `to_tensors` and `names` describe. Raises BundleError for anything else."""
        expected = "a file written by PartKit.save"
        try:
            told: Any = json.loads(names_json)
            if set(tensors) != set(_ARRAYS):
                raise ValueError(f"arrays, but {', '.join(sorted(tensors))[:150] or 'none'}")
            if told["pieces"] != list(PIECES) or not isinstance(told["source"], str):
                raise ValueError("list of pieces")
            shapes = told["motion_shapes"]
            if not isinstance(shapes, list):
                raise ValueError("list of blendshapes")
            return cls(motion_shapes=tuple(shapes), source=told["source"], **tensors)
        except (KeyError, TypeError, ValueError, RecursionError, MeshInputError) as error:
            got = error.brief if isinstance(error, MeshInputError) else f"no valid {error}"
            raise BundleError(what, got=got, expected=expected, fix=AGAIN) from error
