"""What light reaches a point, in numba: ambient light, three lights, and the shadows of the first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from training.pictures.compiled import inlined
from training.pictures.raster import Array, hash01


class Lights(NamedTuple):
    """The light of one picture, in camera space. Numbers are linear, 1 is white paper in full light."""

    directions: np.ndarray  # [L,3] float32, towards the light; the first casts shadows
    colours: np.ndarray  # [L,3] float32
    ambient: np.ndarray  # [4,3] float32: a constant, and its change along x, y and z
    shadow: np.ndarray  # [S,S] float32, from `raster.shadow_map`
    to_shadow: np.ndarray  # [3,4] float32, from camera space to cells, cells and metres of the shadow map
    softness: float  # radius of the shadow's edge in cells
    cell: float  # metres along a cell of the shadow map


_TAPS = 6
_BIAS = 0.0025  # metres


@inlined
def shadow_at(lights: Lights, place: Array, cosine: float, column: int, row: int) -> float:
    """Return the share of the first light that reaches a point, from taps that differ from sample to sample.

    A surface that slants to the light, by the given cosine, must not shade itself within the taps' reach.
    """
    x, y, z = place[0], place[1], place[2]
    slant = np.sqrt(max(1 - cosine * cosine, 0.0)) / max(cosine, 0.15)
    m = lights.to_shadow
    u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
    v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
    far = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3] - _BIAS
    far -= (0.8 + 0.75 * lights.softness) * lights.cell * min(slant, 3.0)
    size = len(lights.shadow)
    turn = hash01(column, row, 1) * 1.5708
    c, s = np.cos(turn) * lights.softness, np.sin(turn) * lights.softness
    lit = 0.0
    for tap in range(_TAPS):
        c, s = 0.5 * c - 0.8660254 * s, 0.8660254 * c + 0.5 * s
        reach = 0.35 + 0.65 * ((tap + 0.5) / _TAPS)
        i, j = int(v + s * reach), int(u + c * reach)
        if i < 0 or j < 0 or i >= size or j >= size or lights.shadow[i, j] > far:
            lit += 1.0 / _TAPS
    return lit


@inlined
def ambient_at(lights: Lights, nx: float, ny: float, nz: float, k: int) -> float:
    """Return the ambient light of channel k on a surface with the given normal."""
    a = lights.ambient
    return max(a[0, k] + a[1, k] * nx + a[2, k] * ny + a[3, k] * nz, 0.0)


@inlined
def _glint(lx: float, ly: float, lz: float, place: Array) -> float:
    """Return the highlight of a strand: it lies where light and eye make opposite angles with the strand."""
    to_eye = place[6] * place[3] + place[7] * place[4] + place[8] * place[5]
    to_light = place[6] * lx + place[7] * ly + place[8] * lz
    sines = np.sqrt(max((1 - to_eye * to_eye) * (1 - to_light * to_light), 0.0))
    glint = max(sines - to_eye * to_light, 0.0)
    return 0.6 * glint**50 + 0.25 * glint**10


@inlined
def illuminate(
    lights: Lights, place: Array, normal: Array, surface: Array, sample: tuple[int, int], out: Array
) -> None:
    """Fill out [6] with the diffuse light in three channels and the reflected light in three.

    place: [9], the point, the direction to the eye and, for hair, the direction of the strands. surface: [5],
    ambient occlusion, wrap (how far light creeps round the edge of shade: red creeps farthest, as in skin),
    exponent and strength of the highlight (Blinn-Phong, normalised; a negative exponent means the highlight
    of strands, Kajiya and Kay 1989), and reflectance at normal incidence (Schlick 1994).
    """
    nx, ny, nz = normal[0], normal[1], normal[2]
    vx, vy, vz = place[3], place[4], place[5]
    occlusion, wrap, power, gloss, base = surface[0], surface[1], surface[2], surface[3], surface[4]
    facing = max(nx * vx + ny * vy + nz * vz, 0.0)
    rim = base + (1 - base) * (1 - facing) ** 5
    for k in range(3):
        # light that bounces between the walls of a cavity brings its own colour: red in skin
        closed = occlusion ** (1.0 if k > 0 else 1.0 - 0.5 * wrap)
        around = ambient_at(lights, nx, ny, nz, k)
        out[k] = around * closed
        out[3 + k] = around * rim * gloss * occlusion * 0.25 * min(4 * facing, 1.0)
    for i in range(len(lights.directions)):
        lx, ly, lz = lights.directions[i, 0], lights.directions[i, 1], lights.directions[i, 2]
        cosine = nx * lx + ny * ly + nz * lz
        if cosine < -wrap:
            continue
        seen = 1.0
        if i == 0:
            seen = shadow_at(lights, place, cosine, sample[0], sample[1])
            if seen == 0.0:
                continue
        else:
            seen = 0.4 + 0.6 * occlusion
        if power < 0:
            shine = gloss * _glint(lx, ly, lz, place) * max(cosine + 0.2, 0.0) * seen
        else:
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-6
            across = max((nx * hx + ny * hy + nz * hz) / length, 0.0)
            along = max((vx * hx + vy * hy + vz * hz) / length, 0.0)
            fresnel = base + (1 - base) * (1 - along) ** 5
            shine = gloss * fresnel * (power + 2) / 8 * across**power * max(cosine, 0.0) * seen
        if power > 0:
            shine *= min(4 * facing, 1.0)  # at an outline, normals of a coarse mesh say little
        for k in range(3):
            w = wrap * (1.0 if k == 0 else 0.5 if k == 1 else 0.35)
            lit = max(cosine + w, 0.0) / ((1 + w) * (1 + w))
            out[k] += lights.colours[i, k] * lit * (seen if k > 0 else seen ** (1 - 0.4 * wrap))
            out[3 + k] += lights.colours[i, k] * shine
