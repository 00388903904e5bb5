"""UVs in which the face has most of the texels: the islands of a topology's UVs, magnified and packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.atlas import PARTS
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.topology import Topology

_MARGIN = 0.01
_STRIP = 0.2  # share of the atlas, at its bottom, for all but the skin
_TOP, _CHIN, _RIGHT, _LEFT = 10, 152, 234, 454
# How much larger than elsewhere the middle of the face is, across and down; and how wide that middle is, in
# spans of the landmarks. Below 1 it would fold.
_GAINS, _WIDTHS = (2.5, 1.5), (0.30, 0.42)
_BOOST = {"eyes": 1.0, "mouth": 1.0, "tongue": 0.6, "socket": 0.7, "neck": 0.35}  # relative heights
_SQUASHED = 1.6  # no island is wider than this, in its heights
_NEAR_IRIS_M = 0.025
_UNEVEN = 0.01  # of the atlas: how far mirrored points may be from symmetry
_SAME_M = 0.002


@dataclass(frozen=True, eq=False)
class Layout:
    """UVs [U,2], the part of each [U], where the landmarks are [468,2], and u + u' of mirrored points."""

    uvs: np.ndarray
    parts: np.ndarray
    landmark_uvs: np.ndarray
    mirror: float


def lay_out(topology: Topology, positions: np.ndarray, landmarks: LandmarkMap, own: bool) -> Layout:
    """Return the layout of an atlas.

    positions: [V,3] of the mean head, metres. own: keep the topology's UVs as they are, so that textures made
    elsewhere for them still fit.

    Raises MeshInputError for a topology without UVs, or whose landmarks lie on several islands.
    """
    if not topology.has_uvs:
        raise MeshInputError(
            "the bundle's topology", got="no UVs", expected="UVs", fix="export it with its UVs"
        )
    labels = islands(topology)
    corners = landmark_corners(topology, landmarks)
    owners = labels[corners[:, 0]]
    skin = int(np.bincount(owners).argmax())
    if np.count_nonzero(owners == skin) < 0.9 * len(owners):
        raise MeshInputError(
            "the bundle's UVs",
            got=f"a face in {len(set(owners.tolist()))} pieces",
            expected="a face in one piece",
            fix="give UVs without seams across the face",
        )
    parts = _parts(topology, positions, landmarks, labels, skin)
    old = topology.uvs.astype(np.float64)
    at = np.einsum("lk,lkc->lc", landmarks.weights.astype(np.float64), old[corners])
    if own:
        uvs = np.clip(old, 0, 1)
    else:
        uvs = np.zeros_like(old)
        uvs[labels == skin] = _face(old[labels == skin], at)
        _pack(uvs, old, labels, parts, skin)
    found = np.einsum("lk,lkc->lc", landmarks.weights.astype(np.float64), uvs[corners])
    mirror = _mirror(topology, positions, uvs, labels == skin)
    return Layout(
        uvs.astype(np.float32), parts.astype(np.uint8), np.clip(found, 0, 1).astype(np.float32), mirror
    )


def _mirror(topology: Topology, positions: np.ndarray, uvs: np.ndarray, skin: np.ndarray) -> float:
    """Return u + u' of vertices that mirror each other in the plane x = 0; 0 where the UVs are not even."""
    from scipy.spatial import cKDTree

    corners = topology.triangle_uvs[skin[topology.triangle_uvs[:, 0]]]
    vertices = topology.triangles[skin[topology.triangle_uvs[:, 0]]]
    ids, first = np.unique(vertices, return_index=True)
    places, at = uvs[corners.reshape(-1)[first]], positions[ids]
    away, other = cKDTree(at).query(at * [-1, 1, 1])
    near = (away < _SAME_M) & (np.abs(places[:, 1] - places[other, 1]) < _UNEVEN)
    sums = (places[:, 0] + places[other, 0])[near]
    middle = float(np.median(sums)) if near.mean() > 0.5 else 0.0
    return middle if np.mean(np.abs(sums - middle) < _UNEVEN) > 0.9 else 0.0


def islands(topology: Topology) -> np.ndarray:
    """Return the number of the UV island that each UV belongs to, [U]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corners, count = topology.triangle_uvs, len(topology.uvs)
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def landmark_corners(topology: Topology, landmarks: LandmarkMap) -> np.ndarray:
    """Return the UVs of the triangle that each landmark lies in, in the order of its vertices: [468,3]."""
    order = np.argsort(topology.triangles, 1)
    keys = {tuple(row): number for number, row in enumerate(np.sort(topology.triangles, 1).tolist())}
    found = np.zeros((len(landmarks.vertices), 3), np.int64)
    for row, ids in enumerate(landmarks.vertices):
        triangle = keys.get(tuple(sorted(ids.tolist())))
        if triangle is None:
            raise MeshInputError(
                "the bundle's landmark map",
                got=f"landmark {row} on no triangle of the topology",
                expected="points of its triangles",
                fix="run 'python -m export landmarks' on the bundle again",
            )
        found[row, np.argsort(ids)] = topology.triangle_uvs[triangle][order[triangle]]
    return found


def _parts(
    topology: Topology, positions: np.ndarray, landmarks: LandmarkMap, labels: np.ndarray, skin: int
) -> np.ndarray:
    parts = np.zeros(len(labels), np.int64)
    face = landmarks.points(positions)
    height = np.linalg.norm(face[_TOP] - face[_CHIN])
    owner = labels[topology.triangle_uvs[:, 0]]
    for label in set(labels.tolist()) - {skin}:
        vertices = np.unique(topology.triangles[owner == label])
        if not len(vertices):
            continue
        middle = positions[vertices].mean(0)
        inside = {
            name: np.isin(vertices, ids).mean() > 0.5
            for name, ids in topology.regions.items()
            if name in ("eyes", "tongue")
        }
        near = (
            np.linalg.norm(positions[landmarks.irises] - middle, axis=1).min()
            if len(landmarks.irises)
            else np.inf
        )
        if any(inside.values()):
            name = next(name for name, yes in inside.items() if yes)
        elif near < _NEAR_IRIS_M:
            name = "socket"
        elif middle[1] > face[_CHIN, 1] and np.linalg.norm(middle - face[13]) < 0.6 * height:
            name = "mouth"
        else:
            name = "neck"
        parts[labels == label] = PARTS.index(name)
    return parts


def _face(old: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the UVs [n,2] of the skin, upright and with the middle of the face magnified."""
    down = landmarks[_CHIN] - landmarks[_TOP]
    axis = int(np.abs(down).argmax())
    # Turning is a proper rotation, so that triangles keep their sides: the picture's down is -v.
    sign = np.sign(down[axis])
    across = landmarks[_LEFT, 1 - axis] - landmarks[_RIGHT, 1 - axis]
    columns = []
    for column, flip, gain, width in (
        (1 - axis, across < 0, _GAINS[0], _WIDTHS[0]),
        (axis, sign > 0, _GAINS[1], _WIDTHS[1]),
    ):
        values, marks = old[:, column], landmarks[:, column]
        low, high = values.min(), values.max()
        # Across, the middle of the island is that of the face, so that it stays symmetric.
        ends = (low, high) if column != axis else (marks.min(), marks.max())
        centre = (ends[0] + ends[1]) / 2
        placed = _magnified(values, low, high, centre, gain, width * np.ptp(marks))
        columns.append(1 - placed if flip else placed)
    low = np.array([_MARGIN, _STRIP + _MARGIN])
    return low + np.stack(columns, 1) * (1 - _MARGIN - low)


def _magnified(
    values: np.ndarray, low: float, high: float, centre: float, gain: float, width: float
) -> np.ndarray:
    """Return values from low..high in 0..1, with 1 + gain times the room at the centre."""
    grid = np.linspace(low, high, 4001)
    density = 1 + gain * np.exp(-(((grid - centre) / width) ** 2))
    sums = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(values, grid, sums / sums[-1])


def _pack(uvs: np.ndarray, old: np.ndarray, labels: np.ndarray, parts: np.ndarray, skin: int) -> None:
    """Lay the other islands side by side in a strip at the bottom."""
    rest = sorted(set(labels.tolist()) - {skin})
    boxes = []
    for label in rest:
        mine = old[labels == label]
        size = np.maximum(np.ptp(mine, axis=0), 1e-6)
        height = _BOOST.get(PARTS[int(parts[labels == label][0])], 1.0)
        boxes.append((label, mine.min(0), size, height, height * min(size[0] / size[1], _SQUASHED)))
    total = sum(box[4] for box in boxes)
    scale = min(1 - _MARGIN * (len(boxes) + 1), total * (_STRIP - _MARGIN)) / max(total, 1e-9)
    left = _MARGIN
    for label, low, size, height, width in boxes:
        room = np.array([width, height]) * scale
        uvs[labels == label] = [left, _MARGIN] + (old[labels == label] - low) / size * room
        left += room[0] + _MARGIN
