"""`topos-rt eval`: how far one surface is from another."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.errors import OptionError, choose, one_line
from topos_rt.model.bundle import Bundle
from topos_rt.scan.face_region import face_region
from topos_rt.scan.metrics import SAMPLES, THRESHOLDS_MM, Comparison, compare, vertex_errors
from topos_rt.scan.read import INPUT_UNITS, SUFFIXES, read_surface
from topos_rt.scan.surface import Surface
from topos_rt.support.files import refuse_url

EPILOG = f"""
Both are meshes or point clouds, upright and in the same place:
{", ".join(SUFFIXES)}.
Accuracy is the mean distance from PRED to GT, completeness that from GT to PRED, and Chamfer L1
their mean. Precision and recall are the shares of PRED and GT within a threshold of the other;
the F-score is their harmonic mean.
If both have the same triangles, vertices with the same index are compared as well.
With --model, both must be heads of that model, and their faces are compared: the vertices within
95 mm of the tip of the nose, without eyes and ears, each with the one of the same index after the
best similarity; and as in the NoW challenge, from each vertex of GT's face to PRED's surface.
"""
_FACE = {
    "mean_mm": "face: mean",
    "median_mm": "face: median",
    "now_median_mm": "face, NoW: median",
    "now_mean_mm": "face, NoW: mean",
    "now_std_mm": "face, NoW: standard deviation",
}
_MAX_SAMPLES = 10_000_000
_OTHER_UNITS = 8  # times as large: no two heads differ so much, but centimetres and metres do
_FEW = (
    1000  # samples that tell how far apart such surfaces are; nearest points that far off take long to find
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt eval`."""
    parser.epilog = EPILOG
    parser.add_argument("predicted", metavar="PRED", help="the surface to judge")
    parser.add_argument("truth", metavar="GT", help="the true surface")
    parser.add_argument(
        "--input-units", metavar="|".join(INPUT_UNITS), default="m", help="unit of both files (default: m)"
    )
    parser.add_argument(
        "--thresholds",
        metavar="MM,MM...",
        type=options.numbers,
        default=list(THRESHOLDS_MM),
        help=f"thresholds of the F-score, in mm (default: {','.join(f'{t:g}' for t in THRESHOLDS_MM)})",
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=options.whole,
        default=SAMPLES,
        help=f"points drawn from each surface (default: {SAMPLES})",
    )
    parser.add_argument(
        "--model", metavar="mini|PATH", help="the model that made both, whose heads' faces to compare as well"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Compare the surfaces and print the metrics."""
    metres = choose(arguments.input_units, INPUT_UNITS, "unit of length")
    if not 1 <= arguments.samples <= _MAX_SAMPLES:
        raise OptionError("--samples", got=arguments.samples, expected=f"1 to {_MAX_SAMPLES}")
    if not all(0 < limit < np.inf for limit in arguments.thresholds):
        raise OptionError("--thresholds", got=arguments.thresholds, expected="positive numbers, mm")
    bundle = None if arguments.model is None else Bundle.open(arguments.model)
    if bundle is not None:
        face_region(bundle)  # what a model lacks is said before files are read
    surfaces: list[Surface] = []
    for source in (arguments.predicted, arguments.truth):
        console.progress(0.1 + 0.2 * len(surfaces), f"reading {source}")
        refuse_url(source, f"cannot use {source}")
        surface, notes = read_surface(source, metres)
        surfaces.append(surface)
        for note in notes:
            console.note(one_line(f"{source}: {note}"))
    console.progress(0.5, "comparing")
    samples, warnings = arguments.samples, _sizes(surfaces, arguments.input_units)
    if warnings and samples > _FEW:
        samples = _FEW
        warnings.append(f"{_FEW:,} points of each are compared, not {arguments.samples:,}")
    for warning in warnings:
        console.note(f"topos-rt: warning: {warning}")
    found = compare(*surfaces, samples=samples, thresholds_mm=arguments.thresholds, model=bundle)
    console.report.update(
        predicted=arguments.predicted,
        truth=arguments.truth,
        unit="mm",
        thresholds_mm=arguments.thresholds,
        **found.to_json(),
        vertices=_vertices(*surfaces),
        warnings=warnings,
    )
    for name, value in _rows(found, console.report["vertices"]):
        console.say(f"{name:<34}{value:>10}")
    return 0


def _sizes(surfaces: list[Surface], units: str) -> list[str]:
    """Return a warning where the surfaces differ in size as files in different units do."""
    sizes = [surface.size for surface in surfaces]
    if not min(sizes) > 0 or max(sizes) < _OTHER_UNITS * min(sizes):
        return []
    return [
        f"PRED is {sizes[0]:.3g} m across and GT {sizes[1]:.3g} m, both taken as {units}; if their units"
        " differ, convert one of them: --input-units counts for both"
    ]


def _vertices(predicted: Surface, truth: Surface) -> dict[str, float] | None:
    """Return statistics of the distances between vertices of the same index; None if the triangles differ."""
    if predicted.is_cloud or not np.array_equal(predicted.triangles, truth.triangles):
        return None
    if len(predicted.points) != len(truth.points):
        return None
    errors = vertex_errors(predicted.points, truth.points)
    return {name: round(value, 4) for name, value in asdict(errors).items()}


def _rows(found: Comparison, vertices: dict[str, Any] | None) -> list[tuple[str, str]]:
    rows = [
        ("accuracy, mm", f"{found.accuracy_mm:.3f}"),
        ("completeness, mm", f"{found.completeness_mm:.3f}"),
        ("Chamfer L1, mm", f"{found.chamfer_l1_mm:.3f}"),
        ("Chamfer L2, mm^2", f"{found.chamfer_l2_mm2:.3f}"),
        ("95th percentile, mm", f"{found.p95_mm:.3f}"),
        ("maximum, mm", f"{found.max_mm:.3f}"),
    ]
    normals = found.normal_consistency
    rows.append(("normal consistency", "no normals" if normals is None else f"{normals:.4f}"))
    for limit, score in found.f_score.items():
        rows.append((f"F-score at {limit} mm", f"{score:.2%}"))
    for name, value in (vertices or {}).items():
        rows.append((f"vertices: {name.removesuffix('_mm')}, mm", f"{value:.3f}"))
    if found.face is not None:
        rows += [(f"{label}, mm", f"{getattr(found.face, name):.3f}") for name, label in _FACE.items()]
    return rows
