"""Compressed parts of a GLB, decoded by the extra `gltf`: the code of Draco and meshoptimizer themselves.

Both are native code that takes memory as a file tells them to, so sizes are checked here first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError, MissingExtraError

DRACO = "KHR_draco_mesh_compression"
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_DRACO_VERSION = (2, 2)  # the only one that the extension allows
_EDGEBREAKER, _METADATA = 1, 0x8000
# Filter -> the function of meshoptimizer that undoes it, and the bytes of an element that it takes.
_FILTERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "OCTAHEDRAL": ("decode_filter_oct", (4, 8)),
    "QUATERNION": ("decode_filter_quat", (8,)),
    "EXPONENTIAL": ("decode_filter_exp", tuple(range(4, 257, 4))),
}


def meshopt_of(view: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a buffer view says of its compression by meshoptimizer; None where it is not compressed."""
    extensions = view.get("extensions", {})
    found: dict[str, Any] | None = next((extensions[name] for name in _MESHOPT if name in extensions), None)
    return found


def unpack_meshopt(data: bytes, packed: dict[str, Any], what: str) -> bytes:
    """Return the bytes of a buffer view that meshoptimizer has compressed.

    packed: the view's extension, whose count and stride the caller has checked.

    Raises MissingExtraError without the package meshoptimizer, ValueError or RuntimeError for damaged data.
    """
    try:
        import meshoptimizer
    except ImportError as error:
        raise MissingExtraError.needs(f"{what}: {_MESHOPT[0]}", "gltf") from error
    count, size, mode = packed["count"], packed["byteStride"], packed["mode"]
    if mode == "ATTRIBUTES":
        if size % 4 or not 4 <= size <= 256:
            raise ValueError(f"compressed attributes of {size} bytes")
        table: np.ndarray = meshoptimizer.decode_vertex_buffer(count, size, data, np.dtype((np.void, size)))
        name = packed.get("filter", "NONE")
        if name != "NONE":
            function, sizes = _FILTERS[name]
            if size not in sizes:
                raise ValueError(f"the filter {name} on {size} bytes")
            table = getattr(meshoptimizer, function)(table, count, size)
        return table.tobytes()
    if size not in (2, 4) or (mode == "TRIANGLES" and count % 3):
        raise ValueError(f"{count} compressed indices of {size} bytes")
    decode = {"TRIANGLES": "decode_index_buffer", "INDICES": "decode_index_sequence"}[mode]
    # The package returns 32-bit numbers, but the library fills them as numbers of `size` bytes.
    found: bytes = getattr(meshoptimizer, decode)(count, size, data).tobytes()
    return found[: count * size]


@dataclass(frozen=True, eq=False)
class DracoMesh:
    """A primitive as Draco has stored it: the order of its vertices is the encoder's."""

    triangles: np.ndarray  # [F,3] int64
    attributes: dict[str, np.ndarray]  # name in glTF -> [n,width], as stored


def unpack_draco(data: bytes, names: dict[str, int], most: tuple[int, int], what: str) -> DracoMesh:
    """Decode a primitive that Draco has compressed.

    Args:
        data: the bytes of its buffer view.
        names: attribute in glTF -> its id in the stream.
        most: how many vertices and triangles the primitive may have by what the file says elsewhere.
        what: the file, for messages.

    Raises MissingExtraError without the package DracoPy, MeshInputError or ValueError for damaged data.
    """
    vertices, triangles = _draco_sizes(data)
    if vertices > most[0] or triangles > most[1]:
        raise ValueError(
            f"Draco data of {vertices} vertices and {triangles} triangles where {most[0]} and {most[1]} are"
            " announced"
        )
    try:
        import DracoPy
    except ImportError as error:
        raise MissingExtraError.needs(f"{what}: {DRACO}", "gltf") from error
    try:
        mesh = DracoPy.decode(data)
    except DracoPy.FileTypeException as error:
        raise MeshInputError(
            what, got=f"damaged contents (Draco: {error})", expected="a complete .glb file"
        ) from error
    if len(np.asarray(mesh.points)) > most[0]:
        raise ValueError("Draco data of more vertices than announced")
    by_id = {found["unique_id"]: np.asarray(found["data"]) for found in mesh.attributes}
    attributes = {name: by_id[number] for name, number in names.items()}
    return DracoMesh(np.asarray(mesh.faces, np.int64).reshape(-1, 3), attributes)


def _draco_sizes(data: bytes) -> tuple[int, int]:
    """Return the vertices and triangles that the header of a Draco stream declares.

    Source: the Draco bitstream specification 2.2, sections 4 (header) and 5 (connectivity).
    """
    if data[:5] != b"DRACO" or tuple(data[5:7]) != _DRACO_VERSION or data[7] != 1:
        raise ValueError("data that is no mesh of Draco 2.2")
    method, flags = data[8], int.from_bytes(data[9:11], "little")
    if flags & _METADATA:
        raise ValueError("Draco data with metadata")
    if method == _EDGEBREAKER:
        vertices, place = _varint(data, 12)  # one byte tells the traversal
        triangles, _ = _varint(data, place)
        return vertices, triangles
    triangles, place = _varint(data, 11)
    return _varint(data, place)[0], triangles


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("an endless number")
