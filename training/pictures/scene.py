"""Put one picture together: surfaces, looks, lights, the passes of the renderer, and the camera's faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from training.pictures import lights as lights_module
from training.pictures.assets import Library
from training.pictures.camera import Camera
from training.pictures.fields import shadow_frame
from training.pictures.lighting import Lights
from training.pictures.materials import ROW
from training.pictures.raster import HAIR_CUT, Kind, Looks, Mesh, rasterize, shadow_map, vertex_normals
from training.pictures.shading import Buffers, Work, blend, new_work, shade

_SHADOW_SIZE = 256
_REACH = 0.22  # metres around the head that cast shadows


class Part(NamedTuple):
    """A surface of one kind, in the head's own axes."""

    kind: Kind
    points: np.ndarray  # [n,3] float32 metres
    triangles: np.ndarray  # [t,3] int32
    uvs: np.ndarray  # [t,3,2] float32
    fields: np.ndarray  # [n,4] float32
    row: Sequence[float] | np.ndarray  # at most ROW parameters
    texture: int = -1
    normals: np.ndarray | None = None  # [n,3] where they are known already
    soft: np.ndarray | None = None  # [t] bool, see `raster.Mesh`; None means all of what is blended only


@dataclass
class Canvas:
    """The buffers of a process, which every picture uses again."""

    size: int  # samples along a side
    buffers: Buffers = field(init=False)
    shadow: np.ndarray = field(init=False)
    work: Work = field(default_factory=new_work)

    def __post_init__(self) -> None:
        s = self.size
        self.buffers = Buffers(
            np.empty((s, s), np.int32), np.empty((s, s), np.float32),
            np.empty((s, s, 3), np.float32), np.empty((s, s), np.float32),
        )  # fmt: skip
        self.shadow = np.empty((_SHADOW_SIZE, _SHADOW_SIZE), np.float32)


def assemble(parts: Sequence[Part], camera: Camera, library: Library) -> tuple[Mesh, Looks]:
    """Join parts into one mesh in camera space."""
    starts = np.cumsum([0] + [len(p.points) for p in parts])
    normals = []
    for part in parts:
        found = part.normals
        if found is None:
            found = np.empty((len(part.points), 3), np.float32)
            vertex_normals(np.ascontiguousarray(part.points, np.float32), part.triangles, found)
        normals.append(found)
    rows = np.zeros((len(parts), ROW), np.float32)
    for i, part in enumerate(parts):
        rows[i, : len(part.row)] = part.row
        if part.kind == Kind.HAIR:
            rows[i, 9:12] = camera.turned(rows[i : i + 1, 9:12])[0]
    mesh = Mesh(
        camera.turned(np.concatenate([p.points for p in parts])),
        (np.concatenate(normals) @ camera.rotation.T).astype(np.float32),
        np.concatenate([p.fields for p in parts]).astype(np.float32),
        np.concatenate([p.triangles + s for p, s in zip(parts, starts, strict=False)]).astype(np.int32),
        np.concatenate([p.uvs for p in parts]).astype(np.float32),
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(p.triangles) for p in parts]),
        np.concatenate([_soft(p) for p in parts]),
    )
    looks = Looks(
        np.array([int(p.kind) for p in parts]),
        np.array([p.texture for p in parts]),
        rows,
        library.textures.texels,
        library.textures.table,
    )
    return mesh, looks


def _soft(part: Part) -> np.ndarray:
    if part.soft is not None:
        return part.soft
    return np.full(len(part.triangles), part.kind in (Kind.THIN, Kind.LENS))


def cast_shadows(mesh: Mesh, looks: Looks, setting: lights_module.Setting, canvas: Canvas) -> Lights:
    """Return lights with the shadow map of the first of them."""
    frame = shadow_frame(setting.directions[0], np.zeros(3), _REACH, _SHADOW_SIZE)
    from_light = (mesh.points @ frame[:, :3].T + frame[:, 3]).astype(np.float32)
    shadow_map(from_light, sort(mesh, from_light), looks, canvas.shadow)
    return Lights(
        setting.directions.astype(np.float32), setting.colours.astype(np.float32),
        setting.ambient.astype(np.float32), canvas.shadow, frame,
        setting.softness * _SHADOW_SIZE, 2 * _REACH / _SHADOW_SIZE,
    )  # fmt: skip


def find_visible(mesh: Mesh, looks: Looks, screen: np.ndarray, canvas: Canvas) -> None:
    """Fill the canvas's ids and inverse depths."""
    rasterize(screen, mesh, looks, HAIR_CUT, canvas.buffers.ids, canvas.buffers.inverse)


def light_up(
    mesh: Mesh, looks: Looks, screen: np.ndarray, lights: Lights, distance: float, canvas: Canvas
) -> None:
    """Light what is visible over the canvas's image, which holds the backdrop, and blend what is thin."""
    buffers = canvas.buffers
    buffers.veil[:] = 0
    shade(screen, mesh, looks, lights, distance, buffers, canvas.work)
    # triangles come from near to far
    eye = (distance, np.flatnonzero(mesh.soft)[::-1].copy())
    blend(screen, mesh, looks, lights, eye, buffers, canvas.work)


def sort(mesh: Mesh, screen: np.ndarray) -> Mesh:
    """Return the mesh with its triangles from near to far, which hide most others before they are drawn."""
    order = np.argsort(screen[mesh.triangles, 2].sum(1), kind=None)
    return mesh._replace(
        triangles=mesh.triangles[order], uvs=mesh.uvs[order], part=mesh.part[order], soft=mesh.soft[order]
    )  # fmt: skip
