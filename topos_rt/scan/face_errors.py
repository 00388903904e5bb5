"""How far the face of one head is from another's, by corresponding vertices and as the NoW challenge has it.

Both measures leave out place, turn and size. `mean_mm` compares vertices of the same index, which only heads
of one topology allow. The NoW challenge (Sanyal et al. 2019, Learning to Regress 3D Face Shape and Expression
from an Image without 3D Supervision, section 4) measures from the points of a scan to the nearest point of
the predicted surface, after a rigid alignment with scale. It ranks methods less faithfully, since a surface
slides along itself under it (M3DFB, arXiv 2505.18025), but the numbers of other methods are such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.mesh import HeadMesh
from topos_rt.scan.face_region import FaceRegion
from topos_rt.scan.surface import Surface
from topos_rt.support.similarity import fit_similarity

_ROUNDS = 3  # of ICP; nine more take 1 % off the median, and three times as long


@dataclass(frozen=True)
class FaceErrors:
    """Distances over the face of two heads of one topology, in millimetres."""

    vertices: int  # of the face
    mean_mm: float  # mean distance of corresponding vertices, after the similarity that fits them best
    median_mm: float  # their median
    now_median_mm: float  # of the distances from the true face's vertices to the predicted surface, after ICP
    now_mean_mm: float
    now_std_mm: float


def face_errors(predicted: np.ndarray, truth: np.ndarray, region: FaceRegion) -> FaceErrors:
    """Measure two heads [V,3] of one topology, in metres, at the vertices of its face.

    The similarity is that of Umeyama 1991. For the NoW measures it is the start of three rounds of ICP
    (Besl & McKay 1992), each with the similarity from the nearest points of the predicted surface to the
    vertices of the true face.

    Raises MeshInputError for heads of another size than the region's topology, or whose vertices coincide;
    MissingExtraError without SciPy.
    """
    shape = (region.topology.num_vertices, 3)
    for head in (predicted, truth):
        if head.shape != shape:
            raise MeshInputError("head", got=f"vertices {list(head.shape)}", expected=f"{list(shape)}")
    target = np.asarray(truth, np.float64)[region.vertices]
    surface = Surface(predicted, region.triangles)
    corners = surface.points[region.vertices]
    placed = fit_similarity(corners, target)
    apart = 1000 * np.linalg.norm(placed.points(corners) - target, axis=1)
    # The target is moved instead of the surface, so that this is prepared for searches only once.
    nearest = surface.closest(placed.inverse.points(target))
    for _ in range(_ROUNDS):
        placed = fit_similarity(nearest.points, target)
        nearest = surface.closest(placed.inverse.points(target))
    off = 1000 * placed.scale * nearest.distances
    return FaceErrors(
        len(target),
        float(apart.mean()),
        float(np.median(apart)),
        float(np.median(off)),
        float(off.mean()),
        float(off.std()),
    )


def head_vertices(shape: HeadMesh | Surface, region: FaceRegion, what: str = "shape") -> np.ndarray:
    """Return the vertices [V,3] of a shape that is a head of the region's topology.

    A file may repeat vertices along UV seams, after the V of the topology, as our GLBs do, and may cut its
    polygons in other ways into triangles. `what` names the shape in messages.

    Raises MeshInputError for any other shape.
    """
    topology = region.topology
    points = shape.positions if isinstance(shape, HeadMesh) else shape.points
    triangles, count = shape.triangles, topology.num_vertices
    found = (
        "a point cloud" if not len(triangles) else f"{len(points):,} vertices, {len(triangles):,} triangles"
    )
    if len(points) >= count and triangles.shape == topology.triangles.shape:
        copies = triangles >= count
        corners = np.where(copies, topology.triangles, triangles).astype(np.int64)
        apart = points[triangles[copies]] - points[corners[copies]]
        sides = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        known = np.isin(topology.edges @ [count, 1], np.concatenate([sides, sides[:, ::-1]]) @ [count, 1])
        if not apart.any() and known.all():
            return np.asarray(points[:count])
        found = f"{found}, joined otherwise"
    raise MeshInputError(
        f"cannot compare faces: the {what}",
        got=found,
        expected=f"a head of the model: {count:,} vertices in its order,"
        f" {len(topology.triangles):,} triangles",
        fix="name the model that made both heads, or compare without a model",
    )
