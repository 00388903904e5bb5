"""`topos-rt info`: what is in a model bundle or an engine pack."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from topos_rt.cli.console import Console
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.pack.container import Pack
from topos_rt.pack.sections import ABOUT, MEMORY, SIZES

_MEMORY = "{} of a process after a head, {} with a cache of optimised graphs; {} for each job"
_NO_PARTS = "none ('python -m export parts' makes them for MakeHuman's head)"
_NO_ATLAS = "none, for the model has no atlas ('python -m export atlas' makes one)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt info`."""
    parser.add_argument(
        "model",
        metavar="BUNDLE|PACK|mini",
        nargs="?",
        default="mini",
        help="a bundle's directory, an engine pack of 'topos-rt pack', or the bundled model",
    )
    parser.add_argument(
        "--licences", action="store_true", help="print the texts of the licences in an engine pack, too"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Open and verify the bundle or pack, then print what it holds."""
    if Path(arguments.model).is_file():
        return _pack(Pack.open(arguments.model), arguments.licences, console)
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
    around = "" if manifest.residual_scale is None else ", around what the image encoder estimates"
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
        "sampling": f"guidance {flow.guidance:g}, temperature {flow.temperature:g} by default{around}",
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


def _pack(pack: Pack, with_licences: bool, console: Console) -> int:
    about = dict(zip(ABOUT, pack.strings("about"), strict=True))
    sizes = dict(zip(SIZES, pack.array("sizes")[0].tolist(), strict=True))
    seen = [name for number, name in enumerate(EVIDENCE) if sizes[SIZES[7]] >> number & 1]
    bytes_of: dict[str, int] = {}
    for (name, _), section in pack.sections.items():
        bytes_of[name] = bytes_of.get(name, 0) + section.size
    topology = bytes(pack.array("topology_id")[0]).hex()
    licences = dict(zip(_strings(pack, "licence_names"), _strings(pack, "licence_texts"), strict=True))
    measured = ("memory", 0) in pack.sections
    memory = dict(zip(MEMORY, pack.array("memory")[0].tolist(), strict=True)) if measured else None
    console.report.update(
        path=str(pack.path), verified=True, bytes=pack.size, about=about, topology_id=topology, evidence=seen,
        sizes={name: sizes[name] for name in SIZES[:7]}, sections=bytes_of, memory=memory, licences=licences,
    )  # fmt: skip
    rows = {name: text for name, text in about.items() if text}
    rows |= {
        "path": str(pack.path),
        "topology": f"{sizes['vertices']:,} vertices, id {topology[:16]}",
        "image": f"{sizes['image width']} x {sizes['image height']} pixels",
        "evidence": f"{', '.join(seen)} of the face" if seen else "the pixels alone",
        "latent": f"{sizes['latent tokens']} tokens of {sizes['latent channels']}",
        "memory": _MEMORY.format(*map(_size, memory.values()))
        if memory
        else "not measured for these networks",
        "licence texts": f"{', '.join(licences) or 'none'} ('--licences' prints them)",
        "size": f"{_size(pack.size)} in {len(pack.sections)} sections, all verified",
    }
    rows |= {f"  {name}": _size(size) for name, size in bytes_of.items() if size >= 1e5}
    width = max(map(len, rows))
    for name, value in rows.items():
        console.say(f"{name.ljust(width)}  {value}")
    for name, text in licences.items() if with_licences else ():
        console.say(f"\n{name}\n\n{text}")
    return 0


def _strings(pack: Pack, name: str) -> tuple[str, ...]:
    return pack.strings(name) if (name, 0) in pack.sections else ()


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
