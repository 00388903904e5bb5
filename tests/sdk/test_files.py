"""GLB files of the C library are those of the Python package."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import Handle
from topos_rt import HeadMesh
from topos_rt.formats import ExportOptions
from topos_rt.formats.glb import write_glb
from topos_rt.support.native import native

WRITE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)
NO_RIG, NO_PARTS = 1, 2


def written(api: capi.Api, head: Handle, lod: int = 0, flags: int = 0) -> bytes:
    parts: list[bytes] = []

    def write(_: Any, data: int, size: int) -> int:
        parts.append(ctypes.string_at(data, size))
        return 0

    api.ok("head_write_glb", head, lod, flags, WRITE(write), None)
    return b"".join(parts)


def both(
    api: capi.Api, models: Any, name: str, pixels: np.ndarray, **given: Any
) -> tuple[Handle, Handle, HeadMesh]:
    model, pipe = models(name)
    c_given = {key: value for key, value in given.items() if key != "seed"}
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], [given.get("seed", 0)], **c_given))
    mesh = pipe(pixels, crop="none", face_check=False, texture="none", **given)
    return model, head, mesh


@pytest.mark.parametrize("name", ["tiny", "seeing"])
@pytest.mark.parametrize(
    "given",
    [
        {}, {"seed": 2**64 - 1, "steps": 3, "guidance": 0.7, "interval": (0.1, 0.85), "reuse": 2},
        {"times": [1.0, 0.3, 0.0], "temperature": 1e-05}, {"shift": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_a_rig_that_is_not_fitted_gives_the_same_bytes(
    name: str, given: dict[str, Any], api: capi.Api, models: Any
) -> None:
    _, head, mesh = both(api, models, name, smooth(31, 44), **given)
    assert written(api, head) == write_glb(mesh)
    assert written(api, head, 0, NO_RIG) == write_glb(mesh, ExportOptions(rig=False))
    told = json.loads(api.told("head_get_info", "head_info", head).metadata)
    assert told == mesh.metadata and list(told) == list(mesh.metadata)
    api.call("head_release", head)


def test_the_bundled_model(api: capi.Api, models: Any) -> None:
    needs.tool("topos_rt._native", native(), "install topos_rt where there is a C++ compiler")
    _, head, mesh = both(api, models, "mini", smooth(100, 80), seed=5, steps=3)
    for level in range(3):
        at_level = mesh.lod(level)
        for flags, options in (
            (NO_RIG | NO_PARTS, ExportOptions(rig=False, parts=False)),
            (NO_RIG, ExportOptions(rig=False)),
            (0, ExportOptions()),
        ):
            assert written(api, head, level, flags) == write_glb(at_level, options)
    api.call("head_release", head)


def test_a_head_of_the_callers_positions(api: capi.Api, models: Any) -> None:
    model, head, mesh = both(api, models, "mini", smooth(64, 64), steps=1)
    again = Handle(api.made("head_from_positions", model, mesh.positions, mesh.normals))
    for made, own in zip(capi.vertices(api, model, again), (mesh.positions, mesh.normals), strict=True):
        np.testing.assert_array_equal(made, own)
    joints = [np.empty((64, 3), np.float32) for _ in range(2)]
    for handle, out in zip((head, again), joints, strict=True):
        api.ok("write_joints", handle, None, out, None)
    np.testing.assert_array_equal(*joints)
    plain = Handle(api.made("head_from_positions", model, mesh.positions, None))
    normals = capi.vertices(api, model, plain)[1]
    assert ((normals * mesh.normals).sum(1) > 0.9).mean() > 0.9
    assert (
        api.call("head_get_latent", plain, np.empty(9999, np.float32), 9999)
        == capi.constants()["TOPOS_E_UNSUPPORTED"]
    )
    for bad in (np.nan, np.inf, 1e7):
        positions = mesh.positions.copy()
        positions[7, 1] = bad
        with pytest.raises(capi.CError, match="finite"):
            api.made("head_from_positions", model, positions, None)
    for handle in (head, again, plain):
        api.call("head_release", handle)


def test_what_cannot_be_written(api: capi.Api, models: Any, tmp_path: Path) -> None:
    _, head, _ = both(api, models, "tiny", smooth(20, 20), steps=1)
    fails = WRITE(lambda user, data, size: 1)
    with pytest.raises(capi.CError, match="TOPOS_E_IO"):
        api.ok("head_write_glb", head, 0, 0, fails, None)
    for lod, flags in ((1, 0), (0, 16)):
        with pytest.raises(capi.CError, match="TOPOS_E_ARGUMENT"):
            api.ok("head_write_glb", head, lod, flags, fails, None)
    api.call("head_release", head)
