"""How far one surface is from another: Chamfer distance, normal consistency, F-score.

All are measured from points drawn evenly by area on each surface (Philox, seeded) to the nearest point of the
other: exactly, on its triangles, so that the spacing of samples sets no lower limit. For a cloud, both the
samples and the nearest points are points of the cloud.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from topos_rt.errors import MeshInputError, OptionError
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle
from topos_rt.scan.face_errors import FaceErrors, face_errors, head_vertices
from topos_rt.scan.face_region import face_region
from topos_rt.scan.read import Scan
from topos_rt.scan.surface import Samples, Surface

Shape: TypeAlias = Surface | HeadMesh | Scan
SAMPLES = 30_000
THRESHOLDS_MM = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`; distances are in millimetres."""

    accuracy_mm: float  # mean distance from the prediction to the truth
    completeness_mm: float  # mean distance from the truth to the prediction
    chamfer_l1_mm: float  # mean of the two
    chamfer_l2_mm2: float  # sum over both ways of the mean squared distance
    p95_mm: float  # 95th percentile of the distances of both ways together
    max_mm: float  # largest of the same distances
    normal_consistency: float | None  # None where a cloud has no normals
    precision: dict[str, float]  # threshold in mm -> share of the prediction within it
    recall: dict[str, float]  # threshold in mm -> share of the truth within it
    f_score: dict[str, float]  # threshold in mm -> harmonic mean of the two
    samples: tuple[int, int]  # points drawn from the prediction and the truth
    face: FaceErrors | None = None  # where a model was named

    def to_json(self) -> dict[str, Any]:
        """Return plain types, with numbers rounded to the precision that the samples support."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def compare(
    predicted: Shape,
    truth: Shape,
    *,
    samples: int = SAMPLES,
    thresholds_mm: Sequence[float] = THRESHOLDS_MM,
    seed: int = 0,
    judged: Surface | None = None,
    model: str | os.PathLike[str] | Bundle | None = None,
) -> Comparison:
    """Compare two shapes, in metres: heads, scans or surfaces.

    model: the one that both are heads of, to measure their faces as well; see `HeadPipeline.open`.
    judged: the part of the prediction that its points are drawn from, where the truth cannot have the rest:
    no scan has the inside of a mouth. Distances from the truth are still measured to the whole prediction.

    Sources: Chamfer distance, Fan et al. 2017, A Point Set Generation Network (eq. 1; L2 has means
    in place of sums, as is customary). Its L1 form and normal consistency (the mean absolute cosine
    between the normals of a point and of the nearest on the other surface, both ways): Mescheder et al. 2019,
    Occupancy Networks. F-score: Knapitsch et al. 2017, Tanks and Temples.

    Raises OptionError for samples or thresholds that are not positive, MeshInputError for any other object,
    and with a model for shapes that are not its heads; BundleError for a model that cannot be used or has no
    landmark map; MissingExtraError without SciPy.
    """
    face = None if model is None else _faces(predicted, truth, model)
    predicted, truth = _surface(predicted), _surface(truth)
    if not samples > 0 or not thresholds_mm or not all(0 < t < np.inf for t in thresholds_mm):
        raise OptionError(
            "samples and thresholds", got=f"{samples}, {list(thresholds_mm)}", expected="positive numbers"
        )
    out, back = (judged or predicted).sample(samples, seed), truth.sample(samples, seed + 1)
    (there, facing), (home, facing_back) = _one_way(out, truth), _one_way(back, predicted)
    both = np.concatenate([there, home])
    precision = {f"{t:g}": float((there <= t).mean()) for t in thresholds_mm}
    recall = {f"{t:g}": float((home <= t).mean()) for t in thresholds_mm}
    return Comparison(
        accuracy_mm=float(there.mean()),
        completeness_mm=float(home.mean()),
        chamfer_l1_mm=float((there.mean() + home.mean()) / 2),
        chamfer_l2_mm2=float((there**2).mean() + (home**2).mean()),
        p95_mm=float(np.percentile(both, 95)),
        max_mm=float(both.max()),
        normal_consistency=None if facing is None or facing_back is None else (facing + facing_back) / 2,
        precision=precision,
        recall=recall,
        f_score={t: _harmonic(precision[t], recall[t]) for t in precision},
        samples=(len(out.points), len(back.points)),
        face=face,
    )


def _faces(predicted: Shape, truth: Shape, model: str | os.PathLike[str] | Bundle) -> FaceErrors:
    region = face_region(model if isinstance(model, Bundle) else Bundle.open(model))
    heads = [
        head_vertices(shape if isinstance(shape, HeadMesh) else _surface(shape), region, what)
        for shape, what in ((predicted, "prediction"), (truth, "truth"))
    ]
    return face_errors(heads[0], heads[1], region)


def _surface(shape: Shape) -> Surface:
    if isinstance(shape, HeadMesh):
        return Surface(shape.positions, shape.triangles)
    if isinstance(shape, Scan):
        return shape.surface
    if not isinstance(shape, Surface):
        raise MeshInputError(
            "shape to compare", got=type(shape).__name__, expected="a head or a scan", fix="see read_scan"
        )
    return shape


@dataclass(frozen=True)
class VertexErrors:
    """Distances between corresponding vertices, in millimetres."""

    mean_mm: float
    p99_mm: float
    max_mm: float


def vertex_errors(predicted: np.ndarray, truth: np.ndarray) -> VertexErrors:
    """Measure two heads of one topology, [V,3] metres. Raises MeshInputError for different shapes."""
    if predicted.shape != truth.shape:
        raise MeshInputError(
            "vertices",
            got=f"{list(predicted.shape)} and {list(truth.shape)}",
            expected="two heads of one topology",
        )
    errors = 1000 * np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=1)
    return VertexErrors(float(errors.mean()), float(np.percentile(errors, 99)), float(errors.max()))


def _one_way(samples: Samples, other: Surface) -> tuple[np.ndarray, float | None]:
    """Return the distances [n] in mm to another surface, and the mean absolute cosine between the normals."""
    found = other.closest(samples.points)
    if samples.normals is None or found.normals is None:
        return 1000 * found.distances, None
    cosines = np.abs(np.einsum("nk,nk->n", samples.normals, found.normals))
    return 1000 * found.distances, float(cosines.mean())


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return round(value, 4) if isinstance(value, float) else value
