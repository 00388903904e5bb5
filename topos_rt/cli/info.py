"""`topos-rt info`: what is in a model bundle."""

from __future__ import annotations

import argparse
import dataclasses

from topos_rt.cli.console import Console
from topos_rt.model.bundle import Bundle

_NO_PARTS = "none ('python -m export parts' makes them for MakeHuman's head)"
_NO_ATLAS = "none, for the model has no atlas ('python -m export atlas' makes one)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt info`."""
    parser.add_argument(
        "model",
        metavar="BUNDLE|mini",
        nargs="?",
        default="mini",
        help="a bundle's directory, or the bundled model",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Open and verify the bundle, then print what its manifest and data hold."""
    bundle = Bundle.open(arguments.model)
    manifest, topology, rig = bundle.manifest, bundle.topology, bundle.rig
    joints, shapes = (len(rig.joint_names), len(rig.shape_names)) if rig else (0, 0)
    size = sum(file.bytes for file in manifest.files.values())
    counts = {
        "vertices": topology.num_vertices,
        "polygons": len(topology.polygon_sizes),
        "triangles": len(topology.triangles),
        "uvs": len(topology.uvs),
        "joints": joints,
        "blendshapes": shapes,
        "bytes": size,
    }
    console.report.update(
        path=str(bundle.path), verified=True, counts=counts, manifest=dataclasses.asdict(manifest)
    )

    image, latent, flow, frame = manifest.image, manifest.latent, manifest.flow, manifest.frame
    uvs = f"{counts['uvs']:,} UVs" if counts["uvs"] else "no UVs"
    rows = {
        "name": manifest.name,
        "about": manifest.description,
        "path": str(bundle.path),
        "weights": f"{manifest.weights.kind}: {manifest.weights.origin}",
        "licence": manifest.weights.licence,
        "topology": f"{counts['vertices']:,} vertices, {counts['polygons']:,} polygons, {uvs}",
        "rig": f"{joints} joints, {shapes} blendshapes" if rig else "none",
        "image": f"{image.width} x {image.height} pixels -> {image.tokens} tokens of {image.channels}",
        "evidence": f"{', '.join(manifest.evidence)} of the face"
        if manifest.evidence
        else "the pixels alone",
        "latent": f"{latent.tokens} tokens of {latent.channels}",
        "points": f"{manifest.points.count:,} (for retopologize)",
        "sampling": f"guidance {flow.guidance:g}, temperature {flow.temperature:g} by default",
        "variation": _variation(bundle),
        "landmark pull": _response(bundle),
        "frame": f"up {frame.up}, forward {frame.forward}, radius {frame.radius_m:g} m",
        "files": f"{len(manifest.files)}, {_size(size)}, all verified",
    }
    textures = "projected from photographs" if bundle.landmarks is not None else "the base material"
    rows["textures"] = f"{textures}, on {manifest.atlas}" if bundle.atlas is not None else _NO_ATLAS
    rows["parts"] = (
        _NO_PARTS if bundle.parts is None else f"teeth and lashes, {len(bundle.parts.pieces)} vertices"
    )
    width = max(map(len, rows))
    for name, value in rows.items():
        console.say(f"{name.ljust(width)}  {value}")
    return 0


def _variation(bundle: Bundle) -> str:
    found = bundle.variation
    if found is None:
        return "none: one temperature scales all noise"
    count = len(found.directions)
    return f"temperature {found.open_temperature:g} in {count} directions that pictures leave open"


def _response(bundle: Bundle) -> str:
    found = bundle.landmark_response
    return "none" if found is None else f"in {len(found.directions)} directions of the latent"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
