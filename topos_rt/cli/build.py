"""`topos-rt build`: builds all engines of a model into the cache, so that no later start has to build any."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

from topos_rt.cli.console import Console
from topos_rt.engines import BUILDERS, EngineOptions, builder
from topos_rt.engines.cache import ENVIRONMENT, EngineCache
from topos_rt.engines.contract import PRECISIONS, BuildCallback
from topos_rt.engines.tensorrt.backend import Plan, TensorRT
from topos_rt.errors import OptionError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.networks import face_engine_source, networks_for
from topos_rt.model import at_once
from topos_rt.model.at_once import SIZES
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.sources import STEPS, engine_source
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.manifest import MANIFEST_NAME as TEXTURE_MANIFEST
from topos_rt.texture.official.manifest import PRECISIONS as TEXTURE_PRECISIONS
from topos_rt.texture.official.networks import settled_precision

_NAMED = 3  # layers named in the table; the JSON names them all


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt build`."""
    parser.add_argument(
        "--model",
        metavar="mini|PATH",
        default="mini",
        help="the bundled model, or the directory of a bundle or texture bundle (default: mini)",
    )
    parser.add_argument(
        "--backend",
        metavar="|".join(BUILDERS),
        required=True,
        help="the backend to build engines for; tensorrt-rtx builds without a GPU, for any GPU it supports",
    )
    parser.add_argument(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="; ".join(f"{name}: {precision.meaning}" for name, precision in PRECISIONS.items())
        + " (default: fp16 where the model has it); of texture bundles "
        + f"{', '.join(TEXTURE_PRECISIONS)} (default: bf16)",
    )
    parser.add_argument(
        "--batch",
        metavar="|".join(map(str, SIZES)),
        type=int,
        default=1,
        help="also build what makes up to so many heads at once, as HeadPipeline.open(batch=8) loads it "
        "(default: 1)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help=f"where to keep the engines; {ENVIRONMENT}=DIR makes other commands look there too "
        "(default: in the user's cache directory)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Build what the cache does not hold yet, and say what was done and why."""
    start = time.perf_counter()
    chosen = builder(arguments.backend)

    def progress(graph: str, fraction: float) -> None:
        console.progress((len(graphs) + fraction) / len(sources), f"building {graph}")

    version = chosen.check_builds()
    name, path, precision, sources = _sources(arguments, chosen, progress)
    cache = EngineCache(arguments.cache)
    graphs: dict[str, Any] = {}
    console.report.update(
        model=name,
        path=str(path),
        backend=arguments.backend,
        version=version,
        precision=precision,
        cache=str(cache.directory),
        layers_from="the parsed network",
        graphs=graphs,
    )
    console.note(f"{chosen.name} {version}, {precision}, into {cache.directory}")
    for graph, source in sources.items():
        began = time.perf_counter()
        # The plan gets no name: that would keep a gigabyte in memory while the next one is built.
        graphs[graph] = _facts(_plan(chosen, source, console))
        graphs[graph]["seconds"] = time.perf_counter() - began
        if len(graphs) == 1:
            console.say(_row("graph", "seconds", "MB", "layers as parsed", "what was done"))
        console.say(_line(graph, graphs[graph]))
    total = {
        "seconds": time.perf_counter() - start,
        "bytes": sum(facts["bytes"] for facts in graphs.values()),
    }
    console.report.update(total)
    console.say(_row("all", f"{total['seconds']:.1f}", f"{total['bytes'] / 1e6:.1f}", "", ""))
    return 0


def _sources(
    arguments: argparse.Namespace, chosen: TensorRT, progress: BuildCallback
) -> tuple[str, Path, str, dict[str, tuple[Path, EngineOptions]]]:
    """Return a model's name, directory and precision, and what to build of it, graph by graph."""
    if (Path(arguments.model) / TEXTURE_MANIFEST).is_file():
        texture = TextureBundle.open(arguments.model)
        precision = settled_precision(texture, arguments.backend, arguments.precision)
        options = EngineOptions(cache=arguments.cache, progress=progress)
        names = texture.manifest.graph_names()
        sources = {graph: texture.source(graph, precision, options) for graph in names}
        return texture.manifest.name, texture.path, precision, sources
    options = EngineOptions(precision=arguments.precision, cache=arguments.cache, progress=progress)
    bundle, faces = Bundle.open(arguments.model), FaceBundle.open()
    precision = str(engine_source(bundle, STEPS[0], chosen, options)[1].precision)
    sources = {graph: engine_source(bundle, graph, chosen, options) for graph in GRAPHS}
    # The face stage goes with every model, always in FP32.
    wanted = networks_for(bundle.manifest.evidence)
    sources |= {name: face_engine_source(faces, name, options) for name in wanted}
    sources |= _at_once(bundle, chosen, sources[STEPS[0]][1], arguments.batch)
    return bundle.manifest.name, bundle.path, precision, sources


def _at_once(
    bundle: Bundle, chosen: TensorRT, options: EngineOptions, batch: int
) -> dict[str, tuple[Path, EngineOptions]]:
    """Return what to build for several heads at once; options: those of a graph of one head."""
    numbers = at_once.numbers_for(bundle, chosen, options.precision, batch)
    if batch > 1 and not numbers:
        raise OptionError(
            "--batch",
            got=f"{batch} for a model that has no graphs for it in {options.precision}",
            expected="1",
            fix="export the bundle again, in FP16 or FP32",
        )
    sources = at_once.sources(bundle, options) if numbers else {}
    return {f"{graph} at once": source for graph, source in sources.items()}


def _plan(chosen: TensorRT, source: tuple[Path, EngineOptions], console: Console) -> Plan:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan = chosen.plan(*source, must_keep=True)
    for warning in caught:
        console.note(f"warning: {warning.message}")
    return plan


def _facts(plan: Plan) -> dict[str, Any]:
    build = plan.build
    return {
        "built": plan.built,
        "reason": plan.reason,
        "build_seconds": build.seconds,
        "bytes": len(plan.data),
        "layers": {precision: sum(kinds.values()) for precision, kinds in build.layers.items()},
        "layers_by_kind": {precision: dict(kinds) for precision, kinds in build.layers.items()},
        "fp32_products": dict(build.wide_products),
        "device_bytes": dict(build.memory),
    }


def _line(graph: str, facts: dict[str, Any]) -> str:
    layers = ", ".join(f"{count} {precision}" for precision, count in facts["layers"].items())
    done = f"built: {facts['reason']}" if facts["built"] else f"nothing: {facts['reason']}"
    if "fp16" in facts["layers"] and facts["fp32_products"]:
        named = list(facts["fp32_products"])
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        done += f"; products left in fp32: {', '.join(named[:_NAMED])}{more}"
    return _row(graph, f"{facts['seconds']:.1f}", f"{facts['bytes'] / 1e6:.1f}", layers, done)


def _row(graph: str, seconds: str, size: str, layers: str, done: str) -> str:
    return f"{graph:<24}{seconds:>8}{size:>9}  {layers:<20}  {done}".rstrip()
