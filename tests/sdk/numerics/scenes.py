"""Heads as the C++ writer of GLB files takes them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.sdk.numerics.calls import call
from topos_rt.formats.materials import part_meshes, triangle_surfaces
from topos_rt.formats.seams import split_seams
from topos_rt.formats.textures import MIME, encoded
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints

_ADDRESS, _SIZE = ctypes.c_void_p, ctypes.c_uint64


class _Rig(ctypes.Structure):
    _fields_ = (
        ("joints", _ADDRESS),
        ("weights", _ADDRESS),
        ("shapes", _SIZE),
        ("index", _ADDRESS),
        ("delta", _ADDRESS),
        ("offsets", _ADDRESS),
    )


class _Part(ctypes.Structure):
    _fields_ = (
        ("material", _ADDRESS),
        ("vertices", _SIZE),
        ("triangles", _SIZE),
        ("positions", _ADDRESS),
        ("normals", _ADDRESS),
        ("uvs", _ADDRESS),
        ("corners", _ADDRESS),
        ("shade", _ADDRESS),
        ("rig", _Rig),
    )


class _Picture(ctypes.Structure):
    _fields_ = (("name", _ADDRESS), ("mime", _ADDRESS), ("bytes", _ADDRESS), ("size", _SIZE))


class _Scene(ctypes.Structure):
    _fields_ = (
        ("vertices", _SIZE),
        ("copies", _SIZE),
        ("triangles", _SIZE),
        ("positions", _ADDRESS),
        ("normals", _ADDRESS),
        ("corners", _ADDRESS),
        ("source", _ADDRESS),
        ("copy_corners", _ADDRESS),
        ("uvs", _ADDRESS),
        ("surfaces", _ADDRESS),
        ("shade", _ADDRESS),
        ("rig", _Rig),
        ("has_rig", _SIZE),
        ("num_joints", _SIZE),
        ("joint_names", _ADDRESS),
        ("joint_roles", _ADDRESS),
        ("parents", _ADDRESS),
        ("joint_positions", _ADDRESS),
        ("num_shapes", _SIZE),
        ("shape_names", _ADDRESS),
        ("num_pictures", _SIZE),
        ("pictures", _ADDRESS),
        ("has_parts", _SIZE),
        ("num_parts", _SIZE),
        ("parts", _ADDRESS),
        ("part_picture", _ADDRESS),
        ("part_picture_size", _SIZE),
        ("metadata", _ADDRESS),
    )


class Scene:
    """The arrays of one head, kept alive."""

    def __init__(self, mesh: HeadMesh) -> None:
        self._kept: list[Any] = []
        split, parts, found = split_seams(mesh.topology), mesh.parts, _Scene()
        found.vertices, found.copies = len(mesh.positions), len(split.source)
        found.triangles = len(mesh.triangles)
        found.positions, found.normals = self._at(mesh.positions), self._at(mesh.normals)
        found.corners, found.source = self._at(mesh.triangles), self._at(split.source)
        found.copy_corners = self._at(split.triangles)
        found.uvs = self._at(split.uvs) if len(split.uvs) else None
        if parts is not None:
            found.has_parts = 1
            found.surfaces = self._at(triangle_surfaces(mesh, parts.kit))
            if len(parts.kit.head_shade) == len(mesh.positions):
                found.shade = self._at(parts.kit.head_shade)
            found.part_picture, found.part_picture_size = self._bytes(parts.kit.picture.tobytes())
        if mesh.rig is not None:
            found.has_rig, found.rig = 1, self._rig(mesh.rig)
            self._skeleton(found, mesh.rig)
        files = {} if mesh.texture is None else encoded(mesh.texture)
        pictures = [
            _Picture(self._text(name), self._text(MIME[suffix]), *self._bytes(data))
            for name, (suffix, data) in files.items()
        ]
        found.num_pictures, found.pictures = len(pictures), self._table(_Picture, pictures)
        meshes = [
            _Part(
                self._text(part.material),
                len(part.positions),
                len(part.triangles),
                self._at(part.positions),
                self._at(part.normals),
                self._at(part.uvs),
                self._at(part.triangles),
                None if part.shade is None else self._at(part.shade),
                _Rig() if part.rig is None else self._rig(part.rig),
            )
            for part in part_meshes(parts)
        ]
        found.num_parts, found.parts = len(meshes), self._table(_Part, meshes)
        metadata = json.dumps(dict(mesh.metadata), separators=(",", ":"), ensure_ascii=False)
        found.metadata = self._text(metadata)
        self._scene = found

    def file(self, lib: ctypes.CDLL) -> bytes:
        size = call(lib, "glb_make", ctypes.byref(self._scene), returns=ctypes.c_uint64)
        out = ctypes.create_string_buffer(size)
        call(lib, "glb_bytes", out)
        return out.raw

    def _skeleton(self, found: _Scene, rig: Rig) -> None:
        roles = {name: role for role, name in humanoid_joints(rig.joint_names).items()}
        found.num_joints, found.joint_names = len(rig.joint_names), self._texts(rig.joint_names)
        found.joint_roles = self._texts([roles.get(name, "") for name in rig.joint_names])
        found.parents, found.joint_positions = self._at(rig.joint_parents), self._at(rig.joint_positions)
        found.num_shapes, found.shape_names = len(rig.shape_names), self._texts(rig.shape_names)

    def _rig(self, rig: Rig) -> _Rig:
        return _Rig(
            self._at(rig.skin_joints),
            self._at(rig.skin_weights),
            len(rig.shape_names),
            self._at(rig.shape_index),
            self._at(rig.shape_delta),
            self._at(rig.shape_offsets),
        )

    def _at(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return array.ctypes.data

    def _bytes(self, data: bytes) -> tuple[int, int]:
        return self._at(np.frombuffer(data, np.uint8)), len(data)

    def _text(self, text: str) -> int:
        return self._bytes(text.encode("utf-8", "replace") + b"\0")[0]

    def _texts(self, texts: Sequence[str]) -> int:
        return self._table(ctypes.c_void_p, [self._text(text) for text in texts])

    def _table(self, kind: Any, rows: Sequence[Any]) -> int:
        table = (kind * max(len(rows), 1))(*rows)
        self._kept.append(table)
        return ctypes.addressof(table)
