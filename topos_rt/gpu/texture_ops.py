"""The checked entry of the texture kernels: on a GPU, compiled for the CPU, or in NumPy.

Arrays on a GPU go to the kernel as in `topos_rt.gpu.ops`. On the host float32 goes to the compiled passes of
`topos_rt._native` where these were built, everything else to the NumPy twin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from topos_rt.errors import InputError
from topos_rt.gpu import ops, texture_reference
from topos_rt.gpu.checks import addresses, check, check_out, device_of_all
from topos_rt.gpu.tables import AnyArray
from topos_rt.gpu.texture_reference import FinishTexture
from topos_rt.support.machine import usable_cores
from topos_rt.support.native import native

_F32, _I32, _U8 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.uint8)
_MOST = 1 << 31
_SRGB_STEPS = 4096


def project_texture(
    vertices: AnyArray,
    weights: AnyArray,
    attributes: AnyArray,
    picture: AnyArray,
    light: AnyArray,
    base: AnyArray,
    *,
    out: AnyArray | None = None,
    stream: int = 0,
) -> AnyArray:
    """Sample a photograph at the texels of a mesh, and take its light and a base colour away, as logarithms.

    A texel's attributes are those of its triangle's corners, weighted. The result is log(colour) - shade -
    base, where shade is the light at its normal, with less colour than fitted and within bounds. A texel that
    faces away or lies outside of the photograph is zero.

    Args:
        vertices: [n,3] int32, the corners of each texel's triangle, below V. They are checked on the host.
        weights: [n,3] FP32 barycentric weights.
        attributes: [V,6] FP32 (on the host also FP64): x and y in the photograph in pixels, the weight with
            which a vertex is seen, and its normal.
        picture: [H,W,3] FP32, linear RGB, two pixels or more each way.
        light: [9,3] FP32, log light by the terms of `texture_reference.harmonics`.
        base: [n,3] FP32, log of the base colour.
        out: [n,4] of the type of the attributes; it must be given on a GPU.

    Returns out: three logarithms and the weight of each texel.
    """
    device = device_of_all(vertices, weights, attributes, picture, light, base, out)
    n = vertices.shape[0] if len(vertices.shape) else 0
    count = attributes.shape[0] if len(attributes.shape) else 0
    high, wide = picture.shape[:2] if len(picture.shape) == 3 else (0, 0)
    if min(high, wide) < 2 or high * wide * 3 >= _MOST:
        expected = "[H,W,3], two or more pixels each way"
        raise InputError("picture", got=f"shape {list(picture.shape)}", expected=expected)
    given = {
        "vertices": check("vertices", vertices, (_I32,), (n, 3), device),
        "weights": check("weights", weights, (_F32,), (n, 3), device),
        "attributes": check(
            "attributes",
            attributes,
            (_F32,) if device is not None else (_F32, np.dtype(np.float64)),
            (count, 6),
            device,
        ),
        "picture": check(
            "picture",
            picture,
            (_F32,) if device is not None else (np.dtype(attributes.dtype), _F32),
            (high, wide, 3),
            device,
        ),
        "light": check("light", light, (_F32,), (9, 3), device),
        "base": check("base", base, (_F32,), (n, 3), device),
    }
    out = check_out("out", out, (np.dtype(attributes.dtype),), (n, 4), device)
    if device is not None:
        places = addresses(**given, out=out)
        ops.run_kernel("project_texture", texels=n, height=high, width=wide, stream=stream, **places)
        return out
    if n and not 0 <= int(vertices.min()) <= int(vertices.max()) < count:
        got = f"{vertices.min()}..{vertices.max()}"
        raise InputError("vertices", got=got, expected=f"0..{count - 1}")
    compiled = native()
    if compiled is None or attributes.dtype != _F32:
        return texture_reference.project_texture(**given, out=out)
    out = np.empty((n, 4), np.float32) if out is None else out
    there = _addresses_here(**given, out=out)
    compiled.project_texture(texels=n, height=high, width=wide, threads=usable_cores(), **there)
    return out


def finish_texture(given: FinishTexture, *, out: AnyArray | None = None, stream: int = 0) -> AnyArray:
    """Make the colours of a texture: smooth fields everywhere, and a photograph in a window.

    A colour is base * exp(log colour over the base). In the window the texels, less the unevenness and dulled
    where skin shines, take its place by their weight and, where that lacks, those of the mirrored column do.
    Hair comes last, by its cover and grain.

    out: [S,S,3] uint8; it must be given on a GPU. Returns out.
    """
    arrays = {name: value for name, value in vars(given).items() if name not in ("corner", "mirror")}
    device = device_of_all(*arrays.values(), out)
    side = given.base.shape[0] if len(given.base.shape) else 0
    cells = given.cells.shape[0] if len(given.cells.shape) else 0
    high, wide = given.skin.shape if len(given.skin.shape) == 2 else (0, 0)
    step, (top, left) = given.step, given.corner
    whole = step > 0 and side % cells == high % step == wide % step == 0
    if not (whole and 0 <= top <= side - high and 0 <= left <= side - wide):
        raise InputError(
            "texture",
            got=f"{side} texels, {cells} cells, a window of {high} x {wide} at {top}, {left}",
            expected="a multiple of the cells, and a window of whole cells inside",
        )
    shapes: dict[str, tuple[int, ...]] = {
        "base": (side, side, 3),
        "cells": (cells, cells, 4),
        "texels": (high, wide, 4),
        "window_cells": (high // step, wide // step, 5),
        "skin": (high, wide),
        "grain": (side, side),
        "hair": (3,),
        "tone": (3,),
    }
    checked = {name: check(name, arrays[name], (_F32,), shape, device) for name, shape in shapes.items()}
    checked["srgb"] = check("srgb", given.srgb, (_U8,), (_SRGB_STEPS,), device)
    out = check_out("out", out, (_U8,), (side, side, 3), device)
    places = {"shape": (side, step, top, left, high, wide), "mirror": given.mirror}
    if device is not None:
        ops.run_kernel("finish_texture", **places, **addresses(**checked, out=out), stream=stream)
        return out
    compiled = native()
    if compiled is None:
        return texture_reference.finish_texture(dataclasses.replace(given, **checked), out)
    out = np.empty((side, side, 3), np.uint8) if out is None else out
    compiled.finish_texture(**places, threads=usable_cores(), **_addresses_here(**checked, out=out))
    return out


def box_means(values: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """Blur values [H,W] or [H,W,C], FP32 or FP64, by box filters, one for each radius.

    A filter takes the mean of 2 * radius + 1 neighbours along each axis; beyond the rim lies what lies on it.
    Sums have the type of the values. The passes for the CPU give the bits of the twin; there is no kernel for
    a GPU.
    """
    compiled = native()
    if compiled is None or values.dtype not in (_F32, np.dtype(np.float64)) or not values.size:
        return texture_reference.box_means(values, radii)
    out = np.array(values, order="C")
    high, wide = out.shape[:2]
    shape = {"height": high, "width": wide, "channels": out.size // (high * wide)}
    compiled.box_means(values=out.ctypes.data, wide=out.dtype != _F32, **shape, radii=list(radii))
    return out


def _addresses_here(**arrays: np.ndarray) -> dict[str, int]:
    return {name: array.ctypes.data for name, array in arrays.items()}
