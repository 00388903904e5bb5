"""Read the canonical face out of MediaPipe's geometry metadata, a small protobuf message."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from topos_rt.errors import InputError

# Field numbers of mediapipe/tasks/cc/vision/face_geometry/proto/{geometry_pipeline_metadata,mesh_3d}.proto
_CANONICAL_MESH, _PROCRUSTES_BASIS = 1, 2
_VERTEX_BUFFER, _INDEX_BUFFER = 3, 4
_LANDMARK, _WEIGHT = 1, 2
_LANDMARKS, _FLOATS = 468, 5  # position and texture coordinates of a vertex


def read_canonical(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of `topos_rt.faces.bundle.CanonicalFace` by name. Raises InputError."""
    mesh, weights = b"", np.zeros(_LANDMARKS, np.float32)
    for field, value in _fields(data):
        if field == _CANONICAL_MESH and isinstance(value, bytes):
            mesh = value
        elif field == _PROCRUSTES_BASIS and isinstance(value, bytes):
            entry = dict(_fields(value))
            weights[int(entry[_LANDMARK])] = float(entry[_WEIGHT])
    vertices = np.array(list(_numbers(mesh, _VERTEX_BUFFER)), np.float32)
    triangles = np.array(list(_numbers(mesh, _INDEX_BUFFER)), np.int32)
    if vertices.size != _LANDMARKS * _FLOATS or triangles.size != 898 * 3 or not weights.any():
        raise InputError(
            "canonical face",
            got=f"{vertices.size} vertex numbers and {triangles.size} indices",
            expected=f"{_LANDMARKS * _FLOATS} and {898 * 3}",
        )
    positions = vertices.reshape(-1, _FLOATS)[:, :3]
    return {
        "positions": positions,
        "weights": weights,
        "triangles": triangles.reshape(-1, 3),
        "mirrored": mirrored(positions),
    }


def mirrored(positions: np.ndarray) -> np.ndarray:
    """Return for each point [n,3] of a symmetric face the index of its mirror image, [n] int32."""
    distances = np.linalg.norm(positions[:, None] - positions[None] * np.array([-1, 1, 1]), axis=-1)
    return distances.argmin(1).astype(np.int32)


def _numbers(mesh: bytes, wanted: int) -> Iterator[float | int]:
    """Yield the numbers of a repeated field, packed or not."""
    for field, value in _fields(mesh):
        if field != wanted:
            continue
        if not isinstance(value, bytes):
            yield value
        elif wanted == _VERTEX_BUFFER:
            yield from np.frombuffer(value, "<f4").tolist()
        else:
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                yield number


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    """Yield the number and value of each field of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield tag >> 3, number
        elif kind == 2:
            size, at = _varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        elif kind == 5:
            yield tag >> 3, struct.unpack_from("<f", data, at)[0]
            at += 4
        else:
            raise InputError("canonical face", got=f"a field of wire type {kind}", expected="0, 2 or 5")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
        shift += 7
