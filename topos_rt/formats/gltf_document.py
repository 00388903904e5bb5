"""The arrays of a glTF document: one buffer, with the views and accessors that describe it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from topos_rt.formats.gltf_numbers import Numbers, Storage, floats
from topos_rt.formats.morphs import Morph
from topos_rt.head.rig import Rig

_COMPONENT_TYPES = {"|i1": 5120, "|u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}
_ARRAY_BUFFER = 34962
_ELEMENT_ARRAY_BUFFER = 34963
_NOWHERE = {"min": [0.0] * 3, "max": [0.0] * 3}


class Document:
    """Collects arrays into the one buffer of a GLB, with the views and accessors that describe them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def vertices(self, numbers: Numbers, bounds: bool = False) -> int:
        """Add a vertex attribute [W,k], return its accessor; `bounds` adds minimum and maximum."""
        values = numbers.values
        accessor = _accessor(numbers, f"VEC{values.shape[1]}", self._rows(values))
        if bounds:
            accessor |= _bounds(values.min(0), values.max(0))
        return self._add(accessor)

    def file(self, data: bytes) -> int:
        """Add the bytes of a file, such as a picture, and return their view."""
        return self._view(np.frombuffer(data, np.uint8))

    def indices(self, triangles: np.ndarray, count: int) -> int:
        """Add triangles [f,3] of `count` vertices, three indices each, and return their accessor."""
        values = _small_ints(triangles.ravel(), count)
        return self._add(_accessor(Numbers(values), "SCALAR", self._view(values, _ELEMENT_ARRAY_BUFFER)))

    def skin(self, rig: Rig, source: np.ndarray, storage: Storage) -> dict[str, int]:
        """Add the joints and weights, four per vertex, and return their accessors."""
        weights = rig.skin_weights / rig.skin_weights.sum(1, keepdims=True)
        joints = np.where(weights > 0, rig.skin_joints, 0)  # joints without weight must be 0
        joints = joints[source].astype("|u1" if len(rig.joint_names) <= 0x100 else "<u2")
        return {
            "JOINTS_0": self.vertices(Numbers(joints)),
            "WEIGHTS_0": self.vertices(storage.weights(weights[source])),
        }

    def inverse_binds(self, positions: np.ndarray, storage: Storage) -> int:
        """Add one column-major matrix per joint [J,3], return their accessor.

        Each takes stored positions to metres and moves its joint to the origin.
        """
        matrices = np.tile(np.eye(4, dtype="<f4"), (len(positions), 1, 1))
        matrices[:, :3, :3] *= np.float32(storage.scale)
        matrices[:, 3, :3] = storage.origin - positions
        return self._add(_accessor(floats(matrices), "MAT4", self._view(matrices)))

    def morph_targets(
        self, shapes: list[Morph], source: np.ndarray, storage: Storage
    ) -> list[dict[str, int]]:
        """Add the blendshapes and return their morph targets: sparse accessors of the vertices that move."""
        count = len(source)
        copies, rows, ends = _copies([shape.vertices for shape in shapes], source)
        offsets_of, normals_of = (
            np.concatenate([getattr(shape, name) for shape in shapes])[rows] if shapes else np.zeros((0, 3))
            for name in ("offsets", "normals")
        )
        # per shape: the vertices that move, copies too, their offsets and changes of normals
        moved: list[tuple[np.ndarray, Numbers, Numbers]] = [
            (copies[begin:end], storage.offsets(offsets_of[begin:end]), storage.turns(normals_of[begin:end]))
            for begin, end in itertools.pairwise(ends)
        ]
        if not any(len(ids) for ids, _, _ in moved):
            return [{"POSITION": self._add(_still(count) | _NOWHERE)} for _ in moved]
        ids = _small_ints(np.concatenate([rows for rows, _, _ in moved]), count)
        index_view = self._view(ids)
        columns = [
            self._sparse_values([offsets for _, offsets, _ in moved]),
            self._sparse_values([turns for _, _, turns in moved]),
        ]
        reaches = _reaches([offsets for _, offsets, _ in moved], count)
        targets, start = [], 0
        for number, (rows, _, _) in enumerate(moved):
            target = {}
            for name, places in zip(("POSITION", "NORMAL"), columns, strict=True):
                accessor = _still(count)
                if len(rows):
                    stored, values = places[number]
                    accessor |= _types(stored)
                    accessor["sparse"] = {
                        "count": len(rows),
                        "indices": {
                            "bufferView": index_view,
                            "byteOffset": start * ids.itemsize,
                            "componentType": _COMPONENT_TYPES[ids.dtype.str],
                        },
                        "values": values,
                    }
                if name == "POSITION":
                    accessor |= reaches[number]
                target[name] = self._add(accessor)
            targets.append(target)
            start += len(rows)
        return targets

    def _sparse_values(self, shapes: list[Numbers]) -> list[tuple[Numbers, dict[str, int]]]:
        """Add the values of sparse accessors, those of a type in one view; return where each lies."""
        types = dict.fromkeys(numbers.values.dtype.str for numbers in shapes if len(numbers.values))
        views, ends = {}, dict.fromkeys(types, 0)
        for name in types:
            values = np.concatenate([each.values for each in shapes if each.values.dtype.str == name])
            views[name] = self._view(values + values.dtype.type(0))  # no negative zeros
        found: list[tuple[Numbers, dict[str, int]]] = []
        for numbers in shapes:
            name = numbers.values.dtype.str
            place = {"bufferView": views.get(name, 0), "byteOffset": ends.get(name, 0)}
            found.append((numbers, place))
            ends[name] = place["byteOffset"] + numbers.values.nbytes
        return found

    def finish(self, document: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the document with its views and accessors, and the buffer."""
        document |= {
            "buffers": [{"byteLength": len(self._data)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        return document, bytes(self._data)

    def _rows(self, values: np.ndarray) -> int:
        """Add the rows of a vertex attribute; each begins at a multiple of four bytes, as glTF demands."""
        row = values.itemsize * values.shape[1]
        if row % 4 == 0:
            return self._view(values, _ARRAY_BUFFER)
        padded = np.zeros((len(values), row + -row % 4), np.uint8)
        padded[:, :row] = np.ascontiguousarray(values).view(np.uint8)
        view = self._view(padded, _ARRAY_BUFFER)
        self._views[view]["byteStride"] = padded.shape[1]
        return view

    def _view(self, values: np.ndarray, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": values.nbytes}
        self._views.append(view if target is None else view | {"target": target})
        self._data += values.tobytes()
        self._data += bytes(-len(self._data) % 4)
        return len(self._views) - 1

    def _add(self, accessor: dict[str, Any]) -> int:
        self._accessors.append(accessor)
        return len(self._accessors) - 1


def _copies(shapes: list[np.ndarray], source: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the stored vertices that shapes move, one shape after the other, rising in each.

    shapes: for each the vertices that it moves, rising. source: [W] the vertex that each stored one is.
    Returns the stored vertices [c], the row of all shapes' vertices [c] that each is, and where in these
    arrays each shape begins, and the last one ends.
    """
    vertices = np.concatenate(shapes) if shapes else np.zeros(0, np.int64)
    counts = np.bincount(source, minlength=int(vertices.max(initial=-1)) + 1)
    first, order = np.cumsum(counts) - counts, np.argsort(source, kind="stable")
    times = counts[vertices]
    rows = np.repeat(np.arange(len(vertices)), times)
    turn = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    copies = order[first[vertices[rows]] + turn]
    lengths = [len(each) for each in shapes]
    sorted_rows = np.argsort(np.repeat(np.arange(len(shapes)), lengths)[rows] * len(source) + copies)
    row_ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    ends = np.concatenate([[0], np.cumsum(times)])[row_ends]
    return copies[sorted_rows], rows[sorted_rows], ends.tolist()


def _reaches(shapes: list[Numbers], count: int) -> list[dict[str, list[float]]]:
    """Return the bounds of the offsets [k,3] of each shape, with the zeros of the vertices that stay."""
    found = [_bounds(*np.zeros((2, 3), each.values.dtype)) for each in shapes]
    for dtype in {numbers.values.dtype for numbers in shapes if len(numbers.values)}:
        some = [i for i, each in enumerate(shapes) if len(each.values) and each.values.dtype == dtype]
        lengths = [len(shapes[i].values) for i in some]
        # NumPy is slow along rows of three.
        columns = np.ascontiguousarray(np.concatenate([shapes[i].values for i in some]).T)
        begins = np.cumsum([0, *lengths[:-1]])
        low, high = (reach.reduceat(columns, begins, axis=1).T for reach in (np.minimum, np.maximum))
        still = np.array(lengths) < count
        low[still], high[still] = np.minimum(low[still], 0), np.maximum(high[still], 0)
        for i, *ends in zip(some, low, high, strict=True):
            found[i] = _bounds(*ends)
    return found


def _accessor(numbers: Numbers, kind: str, view: int) -> dict[str, Any]:
    return {"bufferView": view, **_types(numbers), "count": len(numbers.values), "type": kind}


def _types(numbers: Numbers) -> dict[str, Any]:
    component = {"componentType": _COMPONENT_TYPES[numbers.values.dtype.str]}
    return component | ({"normalized": True} if numbers.normalized else {})


def _still(count: int) -> dict[str, Any]:
    """Return an accessor without data, which glTF reads as zeros."""
    return {"componentType": _COMPONENT_TYPES["<f4"], "count": count, "type": "VEC3"}


def _bounds(low: np.ndarray, high: np.ndarray) -> dict[str, list[float]]:
    return {"min": low.tolist(), "max": high.tolist()}


def _small_ints(values: np.ndarray, limit: int) -> np.ndarray:
    """Return 16-bit numbers where all below `limit` fit, else 32-bit; graphics APIs reserve 65535 itself."""
    return values.astype("<u2" if limit <= 0xFFFF else "<u4")
