"""Rasterise triangles into a visibility buffer, with alpha-tested surfaces, and into shadow maps.

All loops run in numba. A sample is a cell of the supersampled picture; its centre is at +0.5.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from training.pictures.compiled import compiled, inlined
from training.pictures.textures import alpha_at

Array: TypeAlias = np.ndarray[Any, Any]


class Kind(IntEnum):
    """What a surface is made of: it decides which samples of a triangle are covered, and how they are lit."""

    SKIN = 0
    BARE = 1  # skin of the body, which the skin textures do not cover
    EYE = 2
    TEETH = 3
    MOUTH = 4  # tongue and cavity
    CLOTH = 5
    HAIR = 6  # cards or caps with a texture
    FUR = 7  # procedural shells: beards, stubble, short and curly hair
    SOLID = 8  # frames, hats
    THIN = 9  # brows and lashes: blended only
    LENS = 10  # glass of spectacles: blended only


class Mesh(NamedTuple):
    """All surfaces of one picture. Triangles of one part share a row in `Looks`."""

    points: np.ndarray  # [N,3] float32, camera space: +X right, +Y up, +Z towards the camera, metres
    normals: np.ndarray  # [N,3] float32, unit length
    fields: np.ndarray  # [N,4] float32, ambient occlusion, then three numbers whose meaning `Kind` decides
    triangles: np.ndarray  # [T,3] int32
    uvs: np.ndarray  # [T,3,2] float32, v upwards
    part: np.ndarray  # [T] int32, the row in `Looks`
    soft: np.ndarray  # [T] bool, whether light comes through somewhere


class Looks(NamedTuple):
    """What the parts of one picture are made of, and the textures of the process."""

    kinds: np.ndarray  # [P] int64, a `Kind`
    textures: np.ndarray  # [P] int64, -1 for none
    rows: np.ndarray  # [P,ROW] float32, parameters whose meaning the kind decides; see `shading`
    texels: np.ndarray  # [n] uint8
    table: np.ndarray  # [textures,3] int64


# Kinds as plain numbers, since numba freezes globals.
_CLOTH, _HAIR, _FUR = int(Kind.CLOTH), int(Kind.HAIR), int(Kind.FUR)


def _table(*kinds: Kind) -> np.ndarray:
    return np.isin(np.arange(len(Kind)), kinds)


_TWO_SIDED = _table(Kind.CLOTH, Kind.HAIR, Kind.FUR, Kind.SOLID, Kind.THIN, Kind.LENS)
_TESTED = _table(Kind.CLOTH, Kind.HAIR, Kind.FUR)  # some samples of a triangle may be missing
_BLENDED = _table(Kind.THIN, Kind.LENS)
_FAR = 1e-6
HAIR_CUT = 0.6  # hair of more alpha is opaque, the rest is blended


@inlined
def hash01(x: int, y: int, z: int) -> float:
    """Return a number in 0..1 that looks random, from three integers (PCG-like mixing)."""
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
    h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
    h = (h ^ (h >> 16)) * 668265263 & 0x7FFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFF) / 1048575.0


@inlined
def noise2(x: float, y: float, seed: int) -> float:
    """Return smooth value noise in 0..1 with cells of size one."""
    ix, iy = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    top = hash01(ix, iy, seed) * (1 - fx) + hash01(ix + 1, iy, seed) * fx
    low = hash01(ix, iy + 1, seed) * (1 - fx) + hash01(ix + 1, iy + 1, seed) * fx
    return top * (1 - fy) + low * fy


@inlined
def covered(looks: Looks, p: int, u: float, v: float, f1: float, f2: float, cut: float) -> bool:
    """Return whether a sample of part `p` is there, in the opaque passes.

    CLOTH: f1 is the distance below the neckline. FUR: f1 is the density, f2 the height in 0..1; the part's
    parameters begin with the grains per unit of u, a seed, the curl and the grains' width over their length.
    """
    kind = looks.kinds[p]
    if kind == _HAIR:
        texture = looks.textures[p]
        return texture < 0 or alpha_at(looks.texels, looks.table, texture, u, v) > cut
    if kind == _CLOTH:
        return f1 > 0.0
    if kind == _FUR:
        if f1 < 0.02:
            return False
        row = looks.rows[p]
        bend = row[2] * (noise2(u * row[0] * 0.13, v * row[0] * 0.13, int(row[1]) + 7) - 0.5)
        grain = noise2(u * row[0] + bend * f2 * 6, v * row[0] * row[3] + bend * 4, int(row[1]))
        return grain * (0.35 + 0.65 * f1) > f2 * 0.62 + (1 - f1) * 0.34
    return True


@compiled
def rasterize(screen: Array, mesh: Mesh, looks: Looks, cut: float, ids: Array, inverse: Array) -> None:
    """Fill ids [S,S] int32 (-1 where empty) and inverse depths [S,S] float32 with the nearest triangle.

    screen: [N,3] float32, x right and y down in samples, then depth in metres.
    """
    triangles, uvs, fields, size = mesh.triangles, mesh.uvs, mesh.fields, len(ids)
    ids[:] = -1
    inverse[:] = _FAR
    for t in range(len(triangles)):
        p = mesh.part[t]
        kind = looks.kinds[p]
        if _BLENDED[kind]:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        if za <= 0.02 or zb <= 0.02 or zc <= 0.02:
            continue
        xa, ya, xb, yb, xc, yc = (
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
        )  # fmt: skip
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area >= 0.0 and not (_TWO_SIDED[kind] and area > 0.0):
            continue
        x0, x1 = max(int(min(xa, xb, xc) - 0.5), 0), min(int(max(xa, xb, xc) + 0.5), size - 1)
        y0, y1 = max(int(min(ya, yb, yc) - 0.5), 0), min(int(max(ya, yb, yc) + 0.5), size - 1)
        tested = _TESTED[kind]
        ia, ib, ic, over = 1 / za, 1 / zb, 1 / zc, 1 / area
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wb = ((px - xa) * (yc - ya) - (py - ya) * (xc - xa)) * over
                wc = ((xb - xa) * (py - ya) - (yb - ya) * (px - xa)) * over
                wa = 1 - wb - wc
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                near = wa * ia + wb * ib + wc * ic
                if near <= inverse[y, x]:
                    continue
                if tested:
                    qa, qb, qc = wa * ia / near, wb * ib / near, wc * ic / near
                    u = qa * uvs[t, 0, 0] + qb * uvs[t, 1, 0] + qc * uvs[t, 2, 0]
                    v = qa * uvs[t, 0, 1] + qb * uvs[t, 1, 1] + qc * uvs[t, 2, 1]
                    f1 = qa * fields[a, 1] + qb * fields[b, 1] + qc * fields[c, 1]
                    f2 = qa * fields[a, 2] + qb * fields[b, 2] + qc * fields[c, 2]
                    if not covered(looks, p, u, v, f1, f2, cut):
                        continue
                inverse[y, x] = near
                ids[y, x] = t


@compiled
def shadow_map(screen: Array, mesh: Mesh, looks: Looks, depth: Array) -> None:
    """Fill depth [S,S] float32 with the distance to the light's nearest surface, from parallel rays.

    screen: [N,3] float32, x and y in cells of the map, then the distance along the ray in metres.
    """
    triangles, uvs, fields, size = mesh.triangles, mesh.uvs, mesh.fields, len(depth)
    depth[:] = 1e9
    for t in range(len(triangles)):
        p = mesh.part[t]
        kind = looks.kinds[p]
        if _BLENDED[kind]:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        xa, ya, xb, yb, xc, yc = (
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
        )  # fmt: skip
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area == 0.0:
            continue
        x0, x1 = max(int(min(xa, xb, xc) - 0.5), 0), min(int(max(xa, xb, xc) + 0.5), size - 1)
        y0, y1 = max(int(min(ya, yb, yc) - 0.5), 0), min(int(max(ya, yb, yc) + 0.5), size - 1)
        tested = _TESTED[kind]
        over = 1 / area
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                wb = ((px - xa) * (yc - ya) - (py - ya) * (xc - xa)) * over
                wc = ((xb - xa) * (py - ya) - (yb - ya) * (px - xa)) * over
                wa = 1 - wb - wc
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                far = wa * screen[a, 2] + wb * screen[b, 2] + wc * screen[c, 2]
                if far >= depth[y, x]:
                    continue
                if tested:
                    u = wa * uvs[t, 0, 0] + wb * uvs[t, 1, 0] + wc * uvs[t, 2, 0]
                    v = wa * uvs[t, 0, 1] + wb * uvs[t, 1, 1] + wc * uvs[t, 2, 1]
                    f1 = wa * fields[a, 1] + wb * fields[b, 1] + wc * fields[c, 1]
                    f2 = wa * fields[a, 2] + wb * fields[b, 2] + wc * fields[c, 2]
                    if not covered(looks, p, u, v, f1, f2, 0.5):
                        continue
                depth[y, x] = far


@compiled
def vertex_normals(points: Array, triangles: Array, normals: Array) -> None:
    """Fill normals [N,3] with the area-weighted mean of the normals of the triangles at each vertex."""
    normals[:] = 0
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-20
        for k in range(3):
            normals[i, k] /= length
