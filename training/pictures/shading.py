"""Light the samples of a visibility buffer, then blend what lets light through, from back to front."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from training.pictures import materials
from training.pictures.compiled import compiled, inlined
from training.pictures.lighting import Lights, illuminate
from training.pictures.materials import skin_colour
from training.pictures.raster import HAIR_CUT, Array, Kind, Looks, Mesh, noise2
from training.pictures.textures import LINEAR, Textures, alpha_at, sample

_SKIN, _BARE, _EYE, _TEETH, _MOUTH, _CLOTH, _HAIR, _FUR, _SOLID, _THIN, _LENS = (int(k) for k in Kind)
_WOVEN = np.isin(np.arange(len(Kind)), (_CLOTH, _SOLID))
_BUMP_STEP = 1 / 1400
_SKIN_REFLECTANCE, _WET_REFLECTANCE, _GLASS_REFLECTANCE = 0.028, 0.03, 0.05
# Brows and lashes may lie this far, in metres, behind the skin: a smile pushes it through them.
_THIN_BIAS = 0.004


class Buffers(NamedTuple):
    """The buffers of one picture at its supersampled size."""

    ids: np.ndarray  # [S,S] int32
    inverse: np.ndarray  # [S,S] float32, one over depth
    image: np.ndarray  # [S,S,3] float32, linear light
    veil: np.ndarray  # [S,S] float32, how much of what lies below is covered by blended surfaces


class Work(NamedTuple):
    """Scratch arrays of one sample, allocated once."""

    place: np.ndarray  # [9], see `lighting.illuminate`
    normal: np.ndarray  # [3]
    uv: np.ndarray  # [2]
    fields: np.ndarray  # [4]
    weights: np.ndarray  # [3]
    surface: np.ndarray  # [5], see `lighting.illuminate`
    light: np.ndarray  # [6]
    colour: np.ndarray  # [4]
    spare: np.ndarray  # [4]


def new_work() -> Work:
    """Allocate the scratch arrays, float64."""
    return Work(
        np.empty(9), np.empty(3), np.empty(2), np.empty(4), np.empty(3),
        np.empty(5), np.empty(6), np.empty(4), np.empty(4),
    )  # fmt: skip


@inlined
def _weigh(screen: Array, a: int, b: int, c: int, x: float, y: float, weights: Array) -> float:
    """Fill the perspective-correct weights [3] of a triangle at a place on the screen; return 1 / depth."""
    xa, ya, xb, yb, xc, yc = (
        screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
    )  # fmt: skip
    area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
    wb = ((x - xa) * (yc - ya) - (y - ya) * (xc - xa)) / area
    wc = ((xb - xa) * (y - ya) - (yb - ya) * (x - xa)) / area
    wa = (1 - wb - wc) / screen[a, 2]
    wb /= screen[b, 2]
    wc /= screen[c, 2]
    near = wa + wb + wc
    weights[0], weights[1], weights[2] = wa / near, wb / near, wc / near
    return near


@inlined
def _gather(mesh: Mesh, t: int, distance: float, w: Work) -> None:
    """Interpolate triangle t's corners with w.weights into the other scratch arrays."""
    w.place[:] = 0
    w.normal[:] = 0
    w.uv[:] = 0
    w.fields[:] = 0
    for i in range(3):
        corner, share = mesh.triangles[t, i], w.weights[i]
        for k in range(3):
            w.place[k] += share * mesh.points[corner, k]
            w.normal[k] += share * mesh.normals[corner, k]
        for k in range(4):
            w.fields[k] += share * mesh.fields[corner, k]
        w.uv[0] += share * mesh.uvs[t, i, 0]
        w.uv[1] += share * mesh.uvs[t, i, 1]
    vx, vy, vz = -w.place[0], -w.place[1], distance - w.place[2]
    length = np.sqrt(vx * vx + vy * vy + vz * vz)
    w.place[3], w.place[4], w.place[5] = vx / length, vy / length, vz / length
    length = np.sqrt(w.normal[0] ** 2 + w.normal[1] ** 2 + w.normal[2] ** 2) + 1e-9
    for k in range(3):
        w.normal[k] /= length


@inlined
def _tangent(mesh: Mesh, t: int, along_v: bool, out: Array) -> float:
    """Fill out [3] with the direction in which v (or u) grows on triangle t; return metres per unit of it."""
    a, b, c = mesh.triangles[t, 0], mesh.triangles[t, 1], mesh.triangles[t, 2]
    u1, v1 = mesh.uvs[t, 1, 0] - mesh.uvs[t, 0, 0], mesh.uvs[t, 1, 1] - mesh.uvs[t, 0, 1]
    u2, v2 = mesh.uvs[t, 2, 0] - mesh.uvs[t, 0, 0], mesh.uvs[t, 2, 1] - mesh.uvs[t, 0, 1]
    area = u1 * v2 - u2 * v1
    p, q = (-u2, u1) if along_v else (v2, -v1)
    if abs(area) < 1e-12:
        area, p, q = 1.0, 1.0, 0.0
    length = 0.0
    for k in range(3):
        e1 = mesh.points[b, k] - mesh.points[a, k]
        e2 = mesh.points[c, k] - mesh.points[a, k]
        out[k] = (p * e1 + q * e2) / area
        length += out[k] * out[k]
    length = np.sqrt(length) + 1e-12
    for k in range(3):
        out[k] /= length
    return length


@inlined
def _bump(mesh: Mesh, looks: Looks, t: int, p: int, w: Work) -> None:
    """Tilt the normal by the skin texture's slopes, as if its darker lines were deeper (Blinn 1978)."""
    bump = looks.rows[p, 9]
    if bump < 0.05:
        return
    textures, texture = Textures(looks.texels, looks.table), looks.textures[p]
    sample(textures, texture, w.uv[0], w.uv[1], LINEAR, w.spare)
    here = w.spare[1]
    sample(textures, texture, w.uv[0] + _BUMP_STEP, w.uv[1], LINEAR, w.spare)
    slope_u = w.spare[1] - here
    sample(textures, texture, w.uv[0], w.uv[1] + _BUMP_STEP, LINEAR, w.spare)
    slope_v = w.spare[1] - here
    relative = bump / (here + 0.05)
    _tangent(mesh, t, False, w.spare)
    for k in range(3):
        w.normal[k] -= relative * slope_u * w.spare[k]
    _tangent(mesh, t, True, w.spare)
    length = 1e-9
    for k in range(3):
        w.normal[k] -= relative * slope_v * w.spare[k]
        length += w.normal[k] ** 2
    for k in range(3):
        w.normal[k] /= np.sqrt(length)


@inlined
def _face_the_eye(w: Work) -> None:
    if w.normal[0] * w.place[3] + w.normal[1] * w.place[4] + w.normal[2] * w.place[5] < 0:
        for k in range(3):
            w.normal[k] = -w.normal[k]


@inlined
def _comb(row: Array, w: Work) -> None:
    """Smooth the normals of hair cards, and let strands flow from the crown along them."""
    _face_the_eye(w)
    dot, length = 0.0, 1e-9
    for k in range(3):
        w.spare[k] = w.place[k] - row[9 + k]
        length += w.spare[k] ** 2
    length = np.sqrt(length)
    for k in range(3):
        w.spare[k] /= length
    # under the crown, hair bulges away from a point below it
    size = 1e-9
    for k in range(3):
        outward = w.place[k] - row[9 + k] + (0.10 if k == 1 else 0.0)
        w.normal[k] = 0.6 * w.normal[k] + 0.4 * outward / 0.1
        size += w.normal[k] ** 2
    size = np.sqrt(size)
    for k in range(3):
        w.normal[k] /= size
        dot += w.normal[k] * w.spare[k]
    length = 1e-9
    for k in range(3):
        w.place[6 + k] = w.spare[k] - dot * w.normal[k]
        length += w.place[6 + k] ** 2
    length = np.sqrt(length)
    for k in range(3):
        w.place[6 + k] /= length


@inlined
def _colour(mesh: Mesh, looks: Looks, t: int, w: Work) -> None:
    """Fill w.colour and w.surface of a sample that `_gather` has prepared."""
    p = mesh.part[t]
    kind, row = looks.kinds[p], looks.rows[p]
    s = w.surface
    s[0], s[1], s[2], s[3], s[4] = w.fields[0], 0.0, 20.0, 0.0, _SKIN_REFLECTANCE
    if kind <= _BARE or kind == _MOUTH:
        skin_colour(looks, p, w.uv, w.fields, w.spare, w.colour)
        s[1], s[2], s[3] = row[23], 14.0 + 16 * row[10], 0.35 + 1.3 * row[10]
        if kind == _SKIN:
            _bump(mesh, looks, t, p, w)
            # lips and the tip of the nose shine more than cheeks; stubble hardly
            s[3] *= (0.55 + 0.9 * noise2(w.uv[0] * 300, w.uv[1] * 300, 5)) * (1 - 0.7 * row[12] * w.fields[1])
            s[3] *= 1 + 1.2 * w.fields[2]
        if kind == _MOUTH:
            s[2], s[3] = 60.0, 1.5
            for k in range(3):
                w.colour[k] *= 0.55
    elif kind == _EYE:
        materials.eye_colour(looks, p, w.uv, w.spare, w.colour)
        s[1], s[2], s[3], s[4] = 0.2, 350.0, 3.0, _WET_REFLECTANCE
    elif kind == _TEETH:
        materials.teeth_colour(row, w.fields, w.colour)
        s[1], s[2], s[3], s[4] = 0.1, 70.0, 1.2, _WET_REFLECTANCE
    elif _WOVEN[kind]:
        materials.cloth_colour(row, w.uv[0], w.uv[1], w.colour)
        s[2], s[3], s[4] = row[10], row[9], _GLASS_REFLECTANCE
        _face_the_eye(w)
    elif kind == _HAIR:
        materials.hair_colour(looks, p, w.uv, w.spare, w.colour)
        _comb(row, w)
        s[1], s[2], s[3], s[4] = 0.35, -1.0, row[4], 0.02
    elif kind == _FUR:
        materials.fur_colour(row, w.uv, w.fields, w.colour)
        s[0] *= 0.4 + 0.6 * w.fields[2]
        s[1], s[2], s[3] = 0.3, 8.0, row[7]
        _face_the_eye(w)
    else:
        for k in range(3):
            w.colour[k] = row[k]
        s[1], s[2], s[3], s[4] = 0.3, 250.0, row[4], _GLASS_REFLECTANCE
        _face_the_eye(w)


@compiled
def shade(
    screen: Array, mesh: Mesh, looks: Looks, lights: Lights, distance: float, buffers: Buffers, w: Work
) -> None:
    """Light the visibility buffer, a pixel of two by two samples at a time.

    Samples of a pixel that show the same part are lit once, at the first of them; edges stay as fine as the
    samples. The eye is at (0, 0, distance) in camera space.
    """
    ids, image = buffers.ids, buffers.image
    for pixel_y in range(0, ids.shape[0], 2):
        for pixel_x in range(0, ids.shape[1], 2):
            for i in range(4):
                y, x = pixel_y + i // 2, pixel_x + i % 2
                t = ids[y, x]
                if t < 0:
                    continue
                p, twin = mesh.part[t], -1
                for j in range(i):
                    other = ids[pixel_y + j // 2, pixel_x + j % 2]
                    if other >= 0 and mesh.part[other] == p:
                        twin = j
                        break
                if twin >= 0:
                    for k in range(3):
                        image[y, x, k] = image[pixel_y + twin // 2, pixel_x + twin % 2, k]
                    continue
                a, b, c = mesh.triangles[t, 0], mesh.triangles[t, 1], mesh.triangles[t, 2]
                _weigh(screen, a, b, c, x + 0.5, y + 0.5, w.weights)
                _gather(mesh, t, distance, w)
                _colour(mesh, looks, t, w)
                illuminate(lights, w.place, w.normal, w.surface, (x, y), w.light)
                for k in range(3):
                    image[y, x, k] = w.colour[k] * w.light[k] + w.light[3 + k]


@compiled
def blend(
    screen: Array,
    mesh: Mesh,
    looks: Looks,
    lights: Lights,
    eye: tuple[float, Array],
    buffers: Buffers,
    w: Work,
) -> None:
    """Blend brows, lashes, lenses and the soft edges of hair.

    eye: its distance in metres, and the triangles to blend from far to near.
    """
    distance, order = eye
    size = len(buffers.ids)
    for t in order:
        p = mesh.part[t]
        kind, row = looks.kinds[p], looks.rows[p]
        a, b, c = mesh.triangles[t, 0], mesh.triangles[t, 1], mesh.triangles[t, 2]
        if min(screen[a, 2], screen[b, 2], screen[c, 2]) <= 0.02:
            continue
        xa, ya, xb, yb, xc, yc = (
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
        )  # fmt: skip
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area == 0.0:
            continue
        bias = _THIN_BIAS if kind == _THIN else 0.0
        x0, x1 = max(int(min(xa, xb, xc) - 0.5), 0), min(int(max(xa, xb, xc) + 0.5), size - 1)
        y0, y1 = max(int(min(ya, yb, yc) - 0.5), 0), min(int(max(ya, yb, yc) + 0.5), size - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                near = _weigh(screen, a, b, c, x + 0.5, y + 0.5, w.weights)
                if w.weights[0] < 0 or w.weights[1] < 0 or w.weights[2] < 0:
                    continue
                if near / (1 - bias * near) <= buffers.inverse[y, x]:
                    continue
                alpha = row[3]
                if kind != _LENS:
                    u = v = 0.0
                    for i in range(3):
                        u += w.weights[i] * mesh.uvs[t, i, 0]
                        v += w.weights[i] * mesh.uvs[t, i, 1]
                    alpha = alpha_at(looks.texels, looks.table, looks.textures[p], u, v)
                    alpha = min(alpha * row[3], 1.0) if kind == _THIN else alpha
                    if alpha < 0.04 or (kind == _HAIR and alpha > HAIR_CUT):
                        continue
                _gather(mesh, t, distance, w)
                _colour(mesh, looks, t, w)
                illuminate(lights, w.place, w.normal, w.surface, (x, y), w.light)
                for k in range(3):
                    below = buffers.image[y, x, k] * (1 - alpha)
                    buffers.image[y, x, k] = (
                        below
                        + w.colour[k] * w.light[k] * alpha
                        + w.light[3 + k] * (1.0 if kind == _LENS else alpha)
                    )
                if kind != _THIN:
                    buffers.veil[y, x] += (1 - buffers.veil[y, x]) * alpha


@compiled
def spread_out(backdrop: Array, image: Array) -> None:
    """Fill the samples [2S,2S,3] of an image from a backdrop [S,S,3]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                image[y, x, k] = backdrop[y // 2, x // 2, k]


@compiled
def resolve(image: Array, out: Array) -> None:
    """Fill out [S,S,3] with the means of two by two samples."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for k in range(3):
                top = image[2 * y, 2 * x, k] + image[2 * y, 2 * x + 1, k]
                low = image[2 * y + 1, 2 * x, k] + image[2 * y + 1, 2 * x + 1, k]
                out[y, x, k] = (top + low) * 0.25
