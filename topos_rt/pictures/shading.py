"""Light, material and shadow for pictures of heads (`preview.py`), in vectorised NumPy.

Shadows and ambient occlusion are computed once per head, as the visibility of a set of directions from each
vertex. The shadow of a soft light is then a mean over the directions near it, for any light and any rotation
of the head.

Sources: GGX lobe, Walter et al. 2007, with Schlick's Fresnel and shadowing terms; coloured ambient occlusion
after Jimenez et al. 2016; wrapped diffuse light after Green, GPU Gems 2004; Phong tessellation, Boubekeur and
Alexa 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors
from topos_rt.head.part_kit import PIECES, PartKit
from topos_rt.head.topology import Topology
from topos_rt.pictures.raster import rasterize
from topos_rt.pictures.skin import Skin
from topos_rt.support.arrays import product


@dataclass(frozen=True)
class Light:
    """A soft light that is fixed to the camera."""

    direction: tuple[float, float, float]  # towards it; x right, y up, z to the camera
    colour: tuple[float, float, float]  # linear
    gleam: float  # strength of its specular reflection


LIGHTS = (
    Light((-0.66, 0.58, 0.52), (1.22, 1.10, 0.98), 0.7),  # key
    Light((0.90, 0.05, 0.42), (0.24, 0.26, 0.30), 0.8),  # fill
    Light((0.70, 0.40, -0.66), (0.85, 0.92, 1.05), 0.5),  # rim
    Light((-0.85, 0.25, -0.55), (0.30, 0.33, 0.38), 0.5),  # rim on the side of the key
)
_SOFTNESS = 14.0  # of the lights; a larger value is a smaller light with a harder shadow
SKY = np.array([[0.215], [0.23], [0.255]], np.float32)
GROUND = np.array([[0.12], [0.085], [0.07]], np.float32)
# Light bleeds past the terminator, red most of all, as in skin and wax.
_BLEED = (0.15, 0.11, 0.09)

_CLAY, _GLOSS = (0.445, 0.285, 0.215), 0.42
# Region of the topology -> linear colour, gloss.
_MATERIALS = {
    "scalp": ((0.40, 0.25, 0.185), 0.35),
    "lips": ((0.415, 0.205, 0.16), 0.6),
    "mouth": ((0.26, 0.085, 0.07), 0.6),
    "tongue": ((0.38, 0.12, 0.10), 0.6),
    "teeth": ((0.66, 0.62, 0.53), 0.8),
    "eyes": ((0.60, 0.56, 0.51), 1.0),
}
# At rest the eyes look a little outwards and downwards; both offsets are in radii of the eyeball.
_OUTWARD, _DOWN = 0.07, 0.04
# Colour by distance from the axis of the eye: pupil, its rim, inner and outer iris, dark edge, white.
_IRIS_RADII = (0.17, 0.20, 0.28, 0.38, 0.415, 0.46)
_IRIS = (
    (0.010, 0.070, 0.130, 0.085, 0.030, 0.60),
    (0.008, 0.040, 0.075, 0.055, 0.022, 0.56),
    (0.007, 0.022, 0.042, 0.036, 0.018, 0.51),
)

_PART_GLOSS = {"teeth": 0.78, "lashes": 0.15}
_DIRECTIONS = 64
_MAP_SIZE = 160  # pixels along each side of a visibility map
# Meshes with fewer triangles are rounded before they are drawn, or their outlines would show corners.
_FINE = 30_000
_ROUNDNESS = 0.7


@dataclass(frozen=True, eq=False)
class Sitter:
    """A head prepared for drawing: centred, and scaled so that half of its largest extent is 1."""

    positions: np.ndarray  # [V,3] float32
    normals: np.ndarray  # [V,3] float32
    triangles: np.ndarray  # [F,3] int32
    colours: np.ndarray  # [V,3] float32, linear
    gloss: np.ndarray  # [V,1] float32
    gaze: np.ndarray  # [V,2] float32: distance from an eye's axis in radii of the eyeball; large elsewhere
    visible: np.ndarray  # [V,_DIRECTIONS] float32: visible fraction of the sky there, 0 to 1
    skin: Skin | None = None  # in place of the colours, where the head has a texture
    parts: Sitter | None = None  # its teeth and lashes, which lie over it

    @classmethod
    def of(cls, head: HeadMesh) -> Sitter:
        low, high = head.bounds
        middle, unit = (low + high) / 2, 2 / (high - low).max()
        positions = (head.positions - middle) * unit
        normals, triangles, topology = head.normals, head.triangles, head.topology
        colours = np.tile(np.array(_CLAY, np.float32), (len(positions), 1))
        gloss = np.full((len(positions), 1), _GLOSS, np.float32)
        for name, ids in topology.regions.items():
            if name in _MATERIALS:
                colours[ids], gloss[ids] = _MATERIALS[name]
        gaze_at = gaze(positions, topology.regions.get("eyes", np.zeros(0, np.int32)))
        others = head.parts and ((head.parts.positions - middle) * unit, head.parts.normals)
        visible, visible_there = _visibility(positions, normals, topology, others or None)
        attributes = np.concatenate([colours, gloss, gaze_at, visible], 1)
        parts = (
            None if not others or head.parts is None else _part_sitter(head.parts.kit, others, visible_there)
        )
        skin = None
        if head.texture is not None:
            skin = Skin.of(topology, head.texture)
            attributes[:, 3] = skin.gloss(topology, head.texture)
        if len(triangles) < _FINE:
            ends, triangles = _subdivision(topology)
            positions, normals = _with_round_middles(positions, normals, ends)
            attributes = np.concatenate([attributes, attributes[ends].mean(1)])
            skin = None if skin is None else skin.subdivided()
        colours, gloss, gaze_at, visible = np.split(attributes, (3, 4, 6), axis=1)
        return cls(positions, normals, triangles, colours, gloss, gaze_at, visible, skin, parts)


def _part_sitter(kit: PartKit, placed: tuple[np.ndarray, np.ndarray], visible: np.ndarray) -> Sitter:
    """Return the teeth and lashes of a head, where `placed` has their positions and normals [m,3]."""
    count = len(kit.pieces)
    gloss = np.array([_PART_GLOSS[piece.material] for piece in PIECES.values()], np.float32)[kit.pieces, None]
    away, nothing = np.full((count, 2), 9, np.float32), np.zeros((count, 3), np.float32)
    skin = Skin.of_parts(kit)
    return Sitter(*placed, kit.triangles, nothing, gloss, away, visible.astype(np.float32), skin)


class TurnedSitter:
    """A sitter rotated into the camera's axes, with the data that shading needs at its vertices."""

    def __init__(
        self,
        sitter: Sitter,
        turn: np.ndarray,
        camera: np.ndarray,
        lights: tuple[Light, ...] = LIGHTS,
        two_sided: bool = False,
    ) -> None:
        """Rotate a sitter.

        turn: [3,3] for row vectors, from the head's axes to the camera's. camera: [3] its position.
        lights: one or more, beside the light from all sides. two_sided: whether its triangles are seen from
        both sides.
        """
        self._two_sided = two_sided
        self._triangles, self._skin, self._lights = sitter.triangles, sitter.skin, lights
        self._camera = camera.astype(np.float32)[:, None]
        self._towards = unit_vectors(np.array([light.direction for light in lights]))
        # the unoccluded fraction of the ambient light, then of each light
        lobes = np.exp(_SOFTNESS * (_directions() @ turn @ self._towards.T - 1))
        lobes = np.concatenate([np.ones((_DIRECTIONS, 1), np.float32), lobes], 1)
        cosine = np.maximum(sitter.normals @ _directions().T, 1e-3)
        free = product(cosine * sitter.visible, lobes) / product(cosine, lobes)  # [V, 1 + lights]
        turned = [sitter.positions @ turn, sitter.normals @ turn]
        painted = [sitter.colours, sitter.gaze] if sitter.skin is None else []  # a texture is in their place
        columns = np.concatenate([*turned, sitter.gloss, free, *painted], 1)
        self._data = np.ascontiguousarray(columns.T, np.float32)  # [C,V]

    def coverage(self, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return how much of what lies behind is covered at points of the triangles, [n] float32 in 0..1."""
        return (
            np.ones(len(triangle), np.float32) if self._skin is None else self._skin.cover(triangle, weights)
        )

    def shade(self, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return linear colours [3,n] float32 at points in triangles [n] with barycentric weights [n,3]."""
        data = np.zeros((len(self._data), len(triangle)), np.float32)
        for ids, part in zip(self._triangles[triangle].T, weights.T, strict=True):
            data += np.take(self._data, ids, axis=1) * part
        normal, view = _unit(data[3:6]), _unit(self._camera - data[:3])
        if self._two_sided:
            normal = np.where(_dot(normal, view) < 0, -normal, normal)
        gloss, sky, unhidden = data[6], data[7], data[8 : 8 + len(self._lights)]
        if self._skin is None:
            colour = _with_iris(data[-5:-2], data[-2:])
        else:
            colour = self._skin.colours(triangle, weights)
        # light that reaches a hollow has bounced off its walls and taken their colour
        hollow = sky / (1 - colour * (1 - sky))
        received = (GROUND + (SKY - GROUND) * (0.5 + 0.5 * normal[1])) * hollow
        mirrored = SKY * ((0.02 + 0.16 * (1 - _dot(normal, view)) ** 4) * sky * sky)
        for light, towards, free in zip(self._lights, self._towards, unhidden, strict=True):
            cosine = towards @ normal
            # wet eyes reflect lights even in the shadow of the lids
            gleam = light.gleam * free ** (1 - gloss * gloss)
            gleam *= _specular(normal, view, towards[:, None], 0.62 - 0.38 * gloss)
            for channel, (part, bleed) in enumerate(zip(light.colour, _BLEED, strict=True)):
                lit = np.maximum((cosine + bleed) / (1 + bleed), 0)
                received[channel] += part * lit * free ** (1 - bleed)
                mirrored[channel] += part * gleam
        return colour * received + mirrored


def _specular(normal: np.ndarray, view: np.ndarray, towards: np.ndarray, roughness: np.ndarray) -> np.ndarray:
    """Return the GGX lobe of a dielectric times the cosine and pi: [n]."""
    half = _unit(view + towards)
    to_light, to_eye = np.maximum(_dot(normal, towards), 0), np.maximum(_dot(normal, view), 1e-3)
    squared = roughness**4
    lobe = squared / (_dot(normal, half) ** 2 * (squared - 1) + 1) ** 2
    fresnel = 0.035 + 0.965 * (1 - _dot(view, half)) ** 5
    k = roughness * roughness / 2
    return lobe * fresnel * to_light / (4 * (to_light * (1 - k) + k) * (to_eye * (1 - k) + k))


def _with_iris(colour: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Paint the iris over `colour` [3,n] where `gaze` [2,n] is near the axis of an eye; return `colour`."""
    radius = np.sqrt(gaze[0] * gaze[0] + gaze[1] * gaze[1])
    near = np.flatnonzero(radius < _IRIS_RADII[-1])
    colour[:, near] = [np.interp(radius[near], _IRIS_RADII, channel) for channel in _IRIS]
    return colour


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.sqrt(np.maximum(_dot(a, a), 1e-12))


def gaze(positions: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Return where the vertices of two eyeballs that look along +Z lie around their axes: [V,2] float32."""
    gaze = np.full((len(positions), 2), 9, np.float32)
    x = positions[eyes, 0]
    right = x < (x.mean() if len(x) else 0)  # the head's own right
    for ids, outward in ((eyes[right], -_OUTWARD), (eyes[~right], _OUTWARD)):
        if len(ids) < 8:
            continue
        # the sphere |p|^2 = 2 p.centre + constant that fits best
        points = positions[ids].astype(np.float64)
        system = np.concatenate([2 * points, np.ones((len(ids), 1))], 1)
        *centre, constant = np.linalg.lstsq(system, (points * points).sum(1), rcond=None)[0]
        radius = np.sqrt(max(constant + np.dot(centre, centre), 1e-12))
        offset = (points - centre) / radius
        length = np.maximum(np.linalg.norm(offset[:, :2], axis=1), 1e-6)
        # past the equator the distance keeps growing
        behind = np.where(offset[:, 2] < 0, np.maximum(2 / length - 1, 1), 1)
        gaze[ids] = offset[:, :2] * behind[:, None] - (outward, -_DOWN)
    return gaze


@lru_cache(maxsize=4)
def _subdivision(topology: Topology) -> tuple[np.ndarray, np.ndarray]:
    """Return the sides [M,2] whose midpoints become vertices V .. V+M-1, and the triangles [4F,3]."""
    a, b, c = topology.triangles.T
    sides = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([b, c], 1), np.stack([c, a], 1)]), axis=1)
    ends, middle = np.unique(sides, axis=0, return_inverse=True)
    ab, bc, ca = (middle.reshape(3, -1) + topology.num_vertices).astype(np.int32)
    corners = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return ends, np.concatenate([np.stack(corner, 1) for corner in corners])


def _with_round_middles(
    positions: np.ndarray, normals: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Append the midpoints of sides, lifted towards the tangent planes at their ends."""
    p, n = positions[ends], normals[ends]  # [M,2,3]
    middle = p.mean(1)
    height = ((p - middle[:, None]) * n).sum(2, keepdims=True)  # of the planes above the middle
    lifted = middle + _ROUNDNESS * (height * n).mean(1)
    return np.concatenate([positions, lifted]), np.concatenate([normals, unit_vectors(n.sum(1))])


@lru_cache(maxsize=1)
def _directions() -> np.ndarray:
    """Return [_DIRECTIONS,3] float32 unit vectors, spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(_DIRECTIONS) + 0.5
    y, angle = 1 - 2 * k / _DIRECTIONS, k * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], 1).astype(np.float32)


def _visibility(
    positions: np.ndarray,
    normals: np.ndarray,
    topology: Topology,
    others: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of the sky around each direction is seen past the head, by depth maps.

    others: positions and normals [m,3] of further points. Returns the visible fractions at the vertices,
    [V,_DIRECTIONS] float32, and at the further points, [m,_DIRECTIONS].
    """
    scale = _MAP_SIZE * 0.49 / float(np.linalg.norm(positions, axis=1).max())  # pixels
    origin = np.array([_MAP_SIZE / 2, _MAP_SIZE / 2, 10])
    count = len(positions)
    lifted = positions + normals / scale
    if others is not None:
        lifted = np.concatenate([lifted, others[0] + others[1] / scale])
    source, target = topology.edges.T
    degree = np.maximum(np.bincount(target, minlength=count), 1)
    visible = np.empty((len(lifted), _DIRECTIONS), np.float32)
    for number, forward in enumerate(_directions()):
        axes = _axes_towards(forward) * [scale, scale, 1]
        screen = positions @ axes + origin
        triangle, weights = rasterize(screen, topology.triangles, _MAP_SIZE, _MAP_SIZE)
        depth = np.einsum("hwk,hwk->hw", screen[:, 2][topology.triangles][triangle], weights)
        depth[triangle < 0] = np.inf
        found = _nothing_before(depth, lifted @ axes + origin, 1.5 / scale)
        seen = found[:count]
        for _ in range(2):  # smooths over the pixels of the map
            seen = 0.4 * seen + 0.6 * np.bincount(target, seen[source], len(seen)) / degree
        visible[:count, number], visible[count:, number] = seen, found[count:]
    return visible[:count], visible[count:]


def sky_seen(positions: np.ndarray, normals: np.ndarray, topology: Topology) -> np.ndarray:
    """Return the share of an even sky's light that reaches the vertices of a head, [V] in 0..1."""
    middle, unit = (positions.min(0) + positions.max(0)) / 2, 2 / np.ptp(positions, axis=0).max()
    seen, _ = _visibility((positions - middle) * unit, normals, topology)
    cosine = np.maximum(normals @ _directions().T, 0)
    found: np.ndarray = (cosine * seen).sum(1) / cosine.sum(1)
    return found


def _axes_towards(forward: np.ndarray) -> np.ndarray:
    """Return the axes of a camera that looks at the head from `forward`: [3,3], columns right, down, away."""
    right = np.cross([1, 0, 0] if abs(forward[1]) > 0.9 else [0, 1, 0], forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, forward), -forward], 1)


def _nothing_before(depth: np.ndarray, at: np.ndarray, bias: float) -> np.ndarray:
    """Return the bilinear share of the four pixels around each point [n,3] that are not nearer: [n]."""
    low = np.floor(at[:, :2] - 0.5).astype(np.int64)
    part = at[:, :2] - 0.5 - low
    total = np.zeros(len(at))
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = np.clip(low + np.array([dx, dy]), 0, _MAP_SIZE - 1).T
        weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
        total += weight * (depth[y, x] + bias >= at[:, 2])
    return total
