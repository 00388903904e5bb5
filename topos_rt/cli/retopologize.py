"""`topos-rt retopologize`: converts scans and meshes of heads to the model's topology."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.outputs import Item
from topos_rt.cli.writing import (
    Outputs,
    add_preview_option,
    check_outputs,
    opened,
    settled_outputs,
    write_head,
)
from topos_rt.errors import ScanWarning, ToposError, choose, one_line
from topos_rt.flow.settings import check_seed
from topos_rt.scan.read import INPUT_UNITS, SUFFIXES, Scan, read_scan
from topos_rt.scan.settings import DEFAULT_PASSES, check_passes
from topos_rt.support.files import refuse_url

if TYPE_CHECKING:
    from topos_rt.pipeline import HeadPipeline, Progress
    from topos_rt.scan.metrics import Comparison

EPILOG = f"""
examples:
  topos-rt retopologize scan.ply                       writes scan.glb; the head lies on the scan
  topos-rt retopologize scan.obj --input-units mm -o head.glb --preview head.png
  topos-rt retopologize scans/*.ply --align -o heads/  scans in any orientation

Inputs are {", ".join(SUFFIXES)}.
An .npz file holds 'points' [P,3] and, optionally, 'normals' [P,3]. Inputs must be upright and
face +Z; otherwise use --align. Each head is measured against its input: from the outside of the
head to the input, and from the input to the whole head.
Exit codes: 0 done; 2 bad usage or input, reported in one line; 1 a failure of topos-rt itself.
"""
_SAMPLES = 20_000
_STAGES = {
    "align": "finding the orientation",
    "vae_encoder": "encoding",
    "vae_decoder": "decoding",
    "register": "laying the head over the scan",
    "rig": "fitting the rig",
}


@dataclass(frozen=True)
class _Request:
    """The checked options."""

    seed: int | None
    passes: int
    units: str
    align: bool
    outputs: Outputs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt retopologize`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "scans", metavar="MESH_OR_POINTS", nargs="+", help=f"a scan or mesh of a head: {', '.join(SUFFIXES)}"
    )
    parser.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        help="a file, a directory, a pattern with {stem}, or - for standard output (default: NAME.glb here)",
    )
    group = parser.add_argument_group("input")
    group.add_argument(
        "--input-units", metavar="|".join(INPUT_UNITS), default="m", help="unit of the inputs (default: m)"
    )
    group.add_argument(
        "--align", action="store_true", help="find each input's orientation; its head keeps that orientation"
    )
    group.add_argument(
        "--passes",
        metavar="N",
        type=options.whole,
        default=DEFAULT_PASSES,
        help="1 encodes once; each further pass registers the head to the scan and encodes again (default: "
        f"{DEFAULT_PASSES})",
    )
    group.add_argument(
        "--seed",
        metavar="K",
        type=options.whole,
        help="sample the VAE's posterior with this seed (default: take its mean)",
    )
    options.add_model_options(parser)
    options.add_format_options(parser)
    add_preview_option(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the heads. One that fails does not stop the others."""
    request = _check(arguments)
    console.report.update(heads=[])
    codes, scans = [], list(arguments.scans)
    with opened(arguments, console) as pipeline:
        check_outputs(pipeline.bundle, arguments)
        for number, source in enumerate(scans):
            try:
                console.progress(number / len(scans), f"{source}: reading")
                refuse_url(source, f"cannot use {source}")
                scan = read_scan(source, units=request.units)
                for warning in scan.warnings:
                    console.warn(f"{source}: {warning}")
                _run_one(pipeline, scan, (source, (number + 0.3) / len(scans)), request, console)
            except ToposError as error:
                console.error(error, source, input=source)
                codes.append(error.exit_code)
    return 1 if 1 in codes else max(codes, default=0)


def _check(arguments: argparse.Namespace) -> _Request:
    """Check every option before anything heavy is loaded. Raises OptionError or OutputError."""
    choose(arguments.input_units, INPUT_UNITS, "unit of length")
    seed = None if arguments.seed is None else check_seed(arguments.seed)
    items = [Item(source, seed or 0) for source in arguments.scans]
    outputs = settled_outputs(arguments, items)
    return _Request(seed, check_passes(arguments.passes), arguments.input_units, arguments.align, outputs)


def _run_one(
    pipeline: HeadPipeline, scan: Scan, place: tuple[str, float], request: _Request, console: Console
) -> None:
    source, share = place

    def show(progress: Progress) -> None:
        console.progress(share, f"{source}: {_STAGES.get(progress.stage, progress.stage)}")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScanWarning)
        head = pipeline.retopologize(
            scan.points,
            scan.normals,
            seed=request.seed,
            align=request.align,
            passes=request.passes,
            callback=show,
        )
    told = [str(entry.message) for entry in caught if issubclass(entry.category, ScanWarning)]
    for warning in told:
        console.note(one_line(f"topos-rt: warning: {source}: {warning}"))
    found = _measure(pipeline, head.positions, scan)
    about: dict[str, Any] = {
        "input": source,
        "points": len(scan.points),
        "kind": "points" if scan.surface.is_cloud else "mesh",
        "notes": list(scan.notes),
        "warnings": [*scan.warnings, *told],
        "against_input": {"unit": "mm", **found.to_json()},
    }
    write_head(head, (source, request.seed or 0, None), request.outputs, console, about)
    for note in scan.notes:
        console.note(one_line(f"{source}: {note}"))
    console.say(_line(found))


def _measure(pipeline: HeadPipeline, positions: Any, scan: Scan) -> Comparison:
    """Compare the outside of the head with the input, and the input with the whole head."""
    from topos_rt.scan.fit import outer_part
    from topos_rt.scan.metrics import compare
    from topos_rt.scan.surface import Surface

    whole = Surface(positions, pipeline.bundle.topology.triangles)
    outside = Surface(positions, outer_part(pipeline.bundle))
    return compare(whole, scan.surface, samples=_SAMPLES, judged=outside)


def _line(found: Comparison) -> str:
    scores = ", ".join(f"{score:.0%} at {limit} mm" for limit, score in found.f_score.items())
    normals = found.normal_consistency
    told = "" if normals is None else f"; normal consistency {normals:.3f}"
    return (
        f"  against the input: head to input {found.accuracy_mm:.2f} mm, back {found.completeness_mm:.2f} mm"
        f" (Chamfer {found.chamfer_l1_mm:.2f} mm){told}; F-score {scores}"
    )
