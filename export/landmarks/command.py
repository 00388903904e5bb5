"""`python -m export landmarks`: give a bundle the map of a face's landmarks on its heads, made from drawings.

The bundle's mean head is drawn from many views, with a closed mouth and, where its rig can, an open one. The
landmarks that the detector sees are cast back onto it, averaged and smoothed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.landmarks.casting import ENOUGH, Hits, cast, medians
from export.landmarks.drawing import Drawing, Model, View
from export.landmarks.paint import Stroke, iris_strokes, strokes
from export.landmarks.smoothing import INNER_LIPS, project, symmetric, warped
from topos_rt.errors import MeshInputError
from topos_rt.faces.bundle import CanonicalFace
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.pose import rotation
from topos_rt.head.landmark_map import COUNT, IRISES, LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.files import check_writable

_FILE = "landmarks.safetensors"
_FIRST = tuple(View(yaw, pitch) for pitch in (0, 8) for yaw in (-30, -15, 0, 15, 30))  # without paint
_VIEWS = tuple(View(yaw, pitch) for pitch in (-15, 0, 15) for yaw in (-50, -34, -17, 0, 17, 34, 50))
_OPEN = {"jawOpen": 0.4}
_OPEN_VIEWS = tuple(View(yaw, pitch) for pitch in (-12, -4, 4, 12) for yaw in (-20, -10, 0, 10, 20))
_AROUND = 0.12  # how far a landmark may be seen from where it was expected, a share of the outer-eye distance
_OUTER_EYES = (33, 263)
_LEAST_NOISE = 0.004  # shares of the outer-eye distance
_MOST_NOISE = 0.1
_KNOWN = 400  # landmarks that must have been seen


@dataclass(frozen=True, eq=False)
class _Pose:
    """A head to draw, and the head at rest that its vertices belong to."""

    head: HeadMesh
    rest: np.ndarray  # [V,3]
    model: Model

    def cast(
        self, finder: FaceFinder, views: Iterable[View], paint: Sequence[Stroke]
    ) -> tuple[Hits, set[int]]:
        """Return the hits in drawings of views, and the triangles that are seen in any of them."""
        drawings: list[tuple[Drawing, np.ndarray]] = []
        seen: set[int] = set()
        normals = self.head.normals[self.head.triangles].mean(1)
        for view in views:
            drawing = self.model.draw(view, self.rest, paint)
            drawings.append((drawing, normals @ rotation(view.yaw, view.pitch, 0)[2]))
            seen.update(np.unique(drawing.triangles[drawing.triangles >= 0]).tolist())
        return cast(finder, drawings), seen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `landmarks`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="directory of the bundle, which is changed"
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the map for the bundle's mean head, write it into the bundle, and renew the manifest."""
    bundle = Bundle.open(arguments.bundle)
    name = bundle.manifest.landmarks or _FILE
    check_writable(bundle.path / name)
    with FaceFinder.open() as finder:
        made = make_map(mean_head(bundle), finder)
    made.save(bundle.path / name)
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, landmarks=name))
    print(
        f"{bundle.path / name}: {COUNT} landmarks, found {100 * np.median(made.noise):.1f} % of the outer-eye"
        f" distance away in the median; {len(made.irises)} irises"
    )


def mean_head(bundle: Bundle) -> HeadMesh:
    """Return the head that a bundle's hierarchy was built on, in metres, with its rig."""
    frame = bundle.manifest.frame
    positions = bundle.hierarchy.levels[0].features[:, :3] @ frame.rotation.T * np.float32(frame.radius_m)
    normals = vertex_normals(positions, bundle.topology.triangles)
    rig = None if bundle.rig is None else fit_rig(bundle.rig, positions)
    return HeadMesh(positions, normals, bundle.topology, rig)


def make_map(head: HeadMesh, finder: FaceFinder) -> LandmarkMap:
    """Return the landmark map of a neutral head. Raises MeshInputError where the drawings show no face."""
    canonical = finder.networks.bundle.canonical
    rest, triangles = head.positions.astype(np.float64), head.triangles
    parts = _parts(head.topology)
    skin = (parts == np.bincount(parts).argmax())[triangles[:, 0]]
    closed = _Pose(head, rest, Model(head))
    first, _ = closed.cast(finder, _FIRST, [])
    rough = medians(first, first.points(rest, triangles), skin[first.triangle] | (first.landmark >= COUNT))
    known = int(np.count_nonzero(~np.isnan(rough[:COUNT, 0])))
    if known < _KNOWN:
        raise MeshInputError(
            "the bundle's head",
            got=f"a face in {first.faces} of {len(_FIRST)} drawings, {known} landmarks",
            expected=f"at least {_KNOWN} of {COUNT}",
            fix="give a bundle whose mean head has a face, looking along its manifest's forward axis",
        )
    expected = warped(canonical, symmetric(rough[:COUNT], canonical.mirrored))
    paint = _paint(expected, rough[list(IRISES)], head.topology, canonical)
    hits, seen = closed.cast(finder, _VIEWS, paint)
    points = hits.points(rest, triangles)
    usable = _usable(hits, points, skin, expected)
    found = symmetric(medians(hits, points, usable)[:COUNT], canonical.mirrored)
    smooth = warped(canonical, found)
    vertices, weights = project(smooth, rest, triangles[[t for t in sorted(seen) if skin[t]]])
    spread = _spread(hits, points, usable, np.einsum("nij,ni->nj", rest[vertices], weights))
    if head.rig is not None and set(_OPEN) <= set(head.rig.shape_names):
        lips = list(INNER_LIPS)
        vertices[lips], weights[lips], spread[lips] = _inner_lips(head, finder, paint, skin, smooth)
    noise = np.clip(spread / _across(smooth), _LEAST_NOISE, _MOST_NOISE)
    return LandmarkMap(
        head.topology.num_vertices,
        vertices,
        weights,
        np.maximum(noise, noise[canonical.mirrored]),
        canonical.mirrored,
        _irises(head.topology, rest, rough[list(IRISES)], expected),
    )


def _across(landmarks: np.ndarray) -> float:
    """Return the distance between the outer corners of the eyes."""
    return float(np.linalg.norm(np.subtract(*landmarks[list(_OUTER_EYES)])))


def _usable(hits: Hits, rest_points: np.ndarray, skin: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which hits [n] lie on the skin, near where landmarks [468,3] are expected at rest."""
    own = np.minimum(hits.landmark, COUNT - 1)
    near = np.linalg.norm(rest_points - expected[own], axis=1) < _AROUND * _across(expected)
    usable: np.ndarray = near & skin[hits.triangle] & (hits.landmark < COUNT)
    return usable


def _paint(
    face: np.ndarray, irises: np.ndarray, topology: Topology, canonical: CanonicalFace
) -> list[Stroke]:
    """Return what to paint, by landmarks [468,3] and irises [2,3]; shading tints what has a region."""
    paint = strokes(face, canonical.mirrored, "lips" not in topology.regions)
    if "eyes" not in topology.regions and not np.isnan(irises).any():
        paint += iris_strokes(irises, face)
    return paint


def _inner_lips(
    head: HeadMesh, finder: FaceFinder, paint: Sequence[Stroke], skin: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices [20,3], weights [20,3] and spread [20] of INNER_LIPS, as an open mouth shows them.

    At rest the two lips touch, and a point near one may be nearer to the other.
    """
    canonical, lips = finder.networks.bundle.canonical, list(INNER_LIPS)
    opened, rest = head.posed(_OPEN), head.positions.astype(np.float64)
    hits, seen = _Pose(opened, rest, Model(opened)).cast(finder, _OPEN_VIEWS, paint)
    places = opened.positions.astype(np.float64)
    points = hits.points(places, head.triangles)
    usable = _usable(hits, hits.points(rest, head.triangles), skin, expected)
    found = symmetric(medians(hits, points, usable)[:COUNT], canonical.mirrored)
    missing = int(np.isnan(found[lips, 0]).sum())
    if missing > len(lips) / 2:
        raise MeshInputError(
            "the bundle's head with an open mouth",
            got=f"{missing} landmarks of the lips seen in fewer than {ENOUGH} drawings",
            expected=f"at most {len(lips) // 2}",
            fix="check its blendshape jawOpen",
        )
    found = np.where(np.isnan(found), warped(canonical, found, apart=()), found)
    vertices, weights = project(found[lips], places, head.triangles[[t for t in sorted(seen) if skin[t]]])
    return vertices, weights, _spread(hits, points, usable, found)[lips]


def _spread(hits: Hits, points: np.ndarray, usable: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return how far hits lie from their middles [468,3], in the median over drawings: [468]."""
    spread = np.full(COUNT, np.inf)
    for landmark in range(COUNT):
        mine = usable & (hits.landmark == landmark)
        if np.count_nonzero(mine) >= ENOUGH:
            spread[landmark] = np.median(np.linalg.norm(points[mine] - middles[landmark], axis=1))
    return spread


def _irises(topology: Topology, rest: np.ndarray, near: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the vertices at the middles of the irises, right then left; none where there are no eyeballs.

    Eyeballs are the region "eyes" or, without one, parts of the mesh other than the skin where the irises
    were seen, near [2,3]. They look ahead: their foremost vertices are taken.
    """
    if "eyes" in topology.regions:
        ids = topology.regions["eyes"]
        middle = np.median(rest[ids, 0])
        balls = [ids[rest[ids, 0] < middle], ids[rest[ids, 0] >= middle]]
    else:
        parts = _parts(topology)
        loose = np.flatnonzero(parts != np.bincount(parts).argmax())
        if not len(loose) or np.isnan(near).any():
            return np.zeros(0, np.int32)
        away = np.linalg.norm(rest[loose] - near[:, None], axis=2)
        if away.min() > _AROUND * _across(landmarks):
            return np.zeros(0, np.int32)
        balls = [np.flatnonzero(parts == parts[loose[eye]]) for eye in away.argmin(1)]
    return np.array([ball[rest[ball, 2].argmax()] for ball in balls])


def _parts(topology: Topology) -> np.ndarray:
    """Return the number of the connected part of the mesh that each vertex [V] belongs to."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count, edges = topology.num_vertices, topology.edges
    graph = csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1])
