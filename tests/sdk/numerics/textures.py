"""Textures as the C++ numerics make them, with the arrays that a pack has of an atlas."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from tests.sdk.numerics.calls import call
from tests.texture.portraits import atlas, bundle
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.camera import Camera
from topos_rt.faces.portrait import Portrait
from topos_rt.head.mesh import HeadMesh
from topos_rt.pack.contents import contents
from topos_rt.pack.sections import ATLAS_MESH

MAPS = ("albedo", "orm", "normal", "confidence")
TABLES = ("vertices", "weights", "base", "log_base", "depth", "skin", "covered", "samples", "eyes", "scalp",
          "parts", "grain")  # fmt: skip


@cache
def sections() -> dict[tuple[str, int], Any]:
    return contents(bundle(), FaceBundle.open())


def addresses(arrays: list[np.ndarray | None]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(None if each is None else each.ctypes.data for each in arrays))


class Prepared:
    """What C++ makes of `mini` and a size of texture."""

    def __init__(self, lib: ctypes.CDLL, side: int) -> None:
        found, of = sections(), atlas()
        source, copies = found["mesh_source", ATLAS_MESH], found["mesh_triangles", ATLAS_MESH]
        self.lib, self.side = lib, side
        self.arrays = [
            np.ascontiguousarray(source[copies], np.int32), np.ascontiguousarray(copies, np.int32),
            found["mesh_uvs", ATLAS_MESH], found["mesh_parts", ATLAS_MESH], found["atlas_sides", 0],
            of.landmark_uvs, of.masks, found["atlas_base", 0], of.warp, of.warp_vertices, of.warp_landmarks,
        ]  # fmt: skip
        sizes = [bundle().topology.num_vertices, len(source), len(copies), len(found["atlas_sides", 0]),
                 len(of.base), *of.warp.shape, side]  # fmt: skip
        made = call(lib, "texture_new", addresses(self.arrays), np.array(sizes, np.uint64), of.mirror,
                    returns=ctypes.c_void_p)  # fmt: skip
        self.handle = ctypes.c_void_p(made)

    def close(self) -> None:
        call(self.lib, "texture_delete", self.handle)

    def window(self) -> list[int]:
        out = np.empty(4, np.int32)
        call(self.lib, "texture_window", self.handle, out)
        return out.tolist()

    def table(self, which: int, dtype: Any) -> np.ndarray:
        count = call(self.lib, "texture_table", self.handle, which, None, returns=ctypes.c_uint64)
        out = np.empty(count, dtype)
        call(self.lib, "texture_table", self.handle, which, out, returns=ctypes.c_uint64)
        return out

    def nothing(self) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
        """Return the maps, the facts and the notes of a head of which nothing is known."""
        call(self.lib, "texture_of_nothing", self.handle)
        return self._maps()

    def project(self, head: HeadMesh, portrait: Portrait) -> tuple[dict[str, np.ndarray], Any, list[str]]:
        """Return the same of a head that was fitted to a portrait."""
        face, camera, at = portrait.face, head.pose, bundle().landmarks
        assert face is not None and isinstance(camera, Camera) and at is not None
        shown = (
            head.posed(head.expression) if head.rig is not None and any(head.expression.values()) else head
        )
        numbers = np.concatenate([camera.turn.ravel(), camera.shift, [camera.focal], camera.centre])
        landmarks = np.ascontiguousarray(face.landmarks, np.float32)
        on_head = addresses([at.vertices, at.weights, at.noise, at.mirrored, at.irises])
        pixels = np.ascontiguousarray(portrait.picture)
        given = addresses([shown.positions, shown.normals, landmarks])
        call(self.lib, "texture_project", self.handle, given, on_head, numbers, pixels,
             pixels.shape[1], pixels.shape[0], pixels.shape[2], np.array([face.size, face.yaw]))  # fmt: skip
        return self._maps()

    def _maps(self) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
        found = {}
        for which, name in enumerate(MAPS):
            count = call(self.lib, "texture_map", self.handle, which, None, returns=ctypes.c_uint64)
            out = np.empty(count, np.uint8)
            call(self.lib, "texture_map", self.handle, which, out, returns=ctypes.c_uint64)
            depth = 1 if name == "confidence" else 3
            side = round((count / depth) ** 0.5)
            found[name] = out.reshape((side, side) if depth == 1 else (side, side, 3))
        text = ctypes.create_string_buffer(4000)
        call(self.lib, "texture_facts", self.handle, text)
        first, *notes = text.value.decode().splitlines()
        return found, json.loads(first)["texture"], notes


@contextmanager
def prepared(lib: ctypes.CDLL, side: int) -> Iterator[Prepared]:
    made = Prepared(lib, side)
    try:
        yield made
    finally:
        made.close()
