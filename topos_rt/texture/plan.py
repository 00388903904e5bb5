"""What projecting a photograph needs of a topology, computed once for each size of texture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topos_rt.gpu.texture_reference import DARKEST
from topos_rt.head.atlas import MASK_SIDE, PARTS, Atlas, laid
from topos_rt.head.topology import Topology
from topos_rt.pictures.colour import LINEAR
from topos_rt.pictures.raster import rasterize
from topos_rt.texture.grids import depth_inside, grown, logs, shrunk

_TONED = {"eyes": 0.0, "tongue": 0.2, "mouth": 0.35}
_SAMPLES, _PLAIN = (
    25_000,
    0.6,
)  # texels for the fit of the light, about, and the share of plain skin they have
_EDGE = 0.02  # of the area of the face, at which the window ends


@dataclass(frozen=True, eq=False)
class Plan:
    """The texels of one atlas and size. The window is the part of them that may show the photograph."""

    side: int  # S
    step: int  # texels of a cell of the atlas's areas, along a side
    window: tuple[slice, slice]  # rows and columns, whole cells; symmetric where the atlas is
    # The n texels of the window, row after row; nearly all are skin, the others have no weights.
    vertices: np.ndarray  # [n,3] int32 vertices of their triangles
    weights: np.ndarray  # [n,3] float32
    base: np.ndarray  # [S,S,3] float32 linear albedo of the base material
    log_base: np.ndarray  # [n,3] float32
    depth: np.ndarray  # [MASK_SIDE,MASK_SIDE] float32: how far inside the face, as a share of the side
    skin: np.ndarray  # [h,w] float32 of the window: the share of plain skin
    covered: np.ndarray  # [h,w] bool: which texels are skin
    samples: np.ndarray  # [m] int64: texels that serve the fit of the light
    eyes: np.ndarray  # [e] int32: texels of the eyes in the whole texture
    scalp: np.ndarray  # [V] float32: the share of hair that vertices have
    parts: np.ndarray  # [MASK_SIDE,MASK_SIDE] uint8: which of PARTS a cell belongs to
    mirrors: bool

    @property
    def cells(self) -> tuple[slice, slice]:
        """The window in cells."""
        rows, columns = (slice(part.start // self.step, part.stop // self.step) for part in self.window)
        return rows, columns

    @property
    def toned(self) -> np.ndarray:
        """How far the parts follow the tone of the skin, [MASK_SIDE,MASK_SIDE,1] float32."""
        share = np.array([_TONED.get(name, 1.0) for name in PARTS], np.float32)
        found: np.ndarray = share[self.parts][..., None]
        return found

    def image(self, values: np.ndarray) -> np.ndarray:
        """Return values [n] or [n,C] of the texels as a picture of the window, which shares their memory."""
        return values.reshape(*self.covered.shape, *values.shape[1:])

    def mirrored(self, values: np.ndarray) -> np.ndarray:
        """Return a picture of the window with its sides exchanged."""
        return values[:, ::-1]


@lru_cache(maxsize=4)
def plan_of(topology: Topology, atlas: Atlas, side: int) -> Plan:
    """Return the plan of a topology, its own or the atlas's UVs, an atlas and a size of 256 or a multiple."""
    topology = laid(topology, atlas)
    step = side // MASK_SIDE
    face = atlas.mask("face")
    rows, columns = _cells(face > _EDGE, atlas.mirror)
    window = slice(rows.start * step, rows.stop * step), slice(columns.start * step, columns.stop * step)
    corners = topology.triangle_uvs
    screen = np.stack([atlas.uvs[:, 0] * side, (1 - atlas.uvs[:, 1]) * side, np.ones(len(atlas.uvs))], 1)
    part = atlas.parts[corners[:, 0]]
    triangle, weights = _texels(screen, corners, np.flatnonzero(part == PARTS.index("skin")), window)
    covered = triangle >= 0
    index = np.flatnonzero(covered)
    base = _base(atlas, side)
    skin = grown(atlas.mask("detail")[rows, columns], step)
    eyes = _texels(screen, corners, np.flatnonzero(part == PARTS.index("eyes")), (slice(0, side),) * 2)[0]
    return Plan(
        side,
        step,
        window,
        np.ascontiguousarray(topology.triangles[np.where(covered, triangle, 0).reshape(-1)], np.int32),
        np.ascontiguousarray(np.where(covered[..., None], weights, 0).reshape(-1, 3), np.float32),
        base,
        logs(np.maximum(base[window].reshape(-1, 3), DARKEST)),
        depth_inside(face > 0.5) / np.float32(MASK_SIDE),
        np.ascontiguousarray(skin),
        covered,
        index[skin.reshape(-1)[index] > _PLAIN][:: max(1, len(index) // _SAMPLES)],
        np.flatnonzero(eyes >= 0).astype(np.int32),
        _at_vertices(atlas, topology, atlas.mask("scalp")),
        _parts(atlas, corners, part),
        atlas.mirror > 0,
    )


def _at_vertices(atlas: Atlas, topology: Topology, area: np.ndarray) -> np.ndarray:
    """Return an area of the skin at the vertices [V], zero for those of other parts."""
    x, y = np.clip(np.stack([atlas.uvs[:, 0], 1 - atlas.uvs[:, 1]]) * MASK_SIDE, 0, MASK_SIDE - 1).astype(int)
    found = np.zeros(topology.num_vertices, np.float32)
    on_skin = atlas.parts[topology.triangle_uvs] == PARTS.index("skin")
    uvs = topology.triangle_uvs[on_skin]
    found[topology.triangles[on_skin]] = area[y[uvs], x[uvs]]
    return found


def _parts(atlas: Atlas, corners: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the part of each cell, of neighbours too where a cell is only touched: islands are apart."""
    screen = np.stack([atlas.uvs[:, 0], 1 - atlas.uvs[:, 1], np.ones(len(atlas.uvs))], 1)
    screen[:, :2] *= MASK_SIDE
    found = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    for number in range(1, len(PARTS)):
        drawn = rasterize(screen, corners[part == number], MASK_SIDE, MASK_SIDE, cull=False)[0] >= 0
        around = np.pad(drawn, 1)
        near = [around[y : y + MASK_SIDE, x : x + MASK_SIDE] for y in range(3) for x in range(3)]
        found[np.logical_or.reduce(near)] = number
    return found


def _cells(inside: np.ndarray, mirror: float) -> tuple[slice, slice]:
    """Return the rows and columns of cells around an area; columns that the mirror exchanges are paired."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    if mirror:
        both = round(mirror * MASK_SIDE)
        left = max(min(left, both - right), both - MASK_SIDE, 0)
        right = both - left
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(left, right)


def _texels(
    screen: np.ndarray, corners: np.ndarray, chosen: np.ndarray, window: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle (-1: none of the chosen) and the weights of each texel of the window."""
    rows, columns = window
    shifted = screen - [columns.start, rows.start, 0]
    drawn, weights = rasterize(
        shifted, corners[chosen], rows.stop - rows.start, columns.stop - columns.start, cull=False
    )
    return np.where(drawn >= 0, chosen[drawn], -1), weights


def _base(atlas: Atlas, side: int) -> np.ndarray:
    """Return the base material in a size, [S,S,3] float32 linear."""
    linear = LINEAR[atlas.base]
    if len(linear) > side:
        linear = shrunk(linear, len(linear) // side)
    elif len(linear) < side:
        linear = grown(linear, side // len(linear))
    linear = np.ascontiguousarray(linear)
    linear.setflags(write=False)
    return linear
