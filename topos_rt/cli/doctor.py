"""`topos-rt doctor`: what works on this machine, and one remedy for each thing that does not.

Only the standard library is imported up front: this is the command for a broken installation.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt import __version__
from topos_rt.cli.console import Console
from topos_rt.errors import ToposError, one_line
from topos_rt.support.machine import nvidia_smi, usable_cores

if TYPE_CHECKING:
    from topos_rt.engines.cache import Entry
    from topos_rt.model.bundle import Bundle

# Distribution -> the module to try to import, and distribution -> the extra that installs it. A test compares
# both with pyproject.toml; they are not read from the installed metadata, which may itself be broken.
REQUIRED = {
    "filelock": "filelock",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "pillow": "PIL.Image",
    "platformdirs": "platformdirs",
    "safetensors": "safetensors.numpy",
}
OPTIONAL = {
    "tensorrt-rtx": "tensorrt-rtx",
    "tensorrt": "tensorrt",
    "cuda-python": "tensorrt-rtx",
    "usd-core": "usd",
    "scipy": "mesh",
    "DracoPy": "gltf",
    "meshoptimizer": "gltf",
    "mapbox-earcut": "mesh",
    "matplotlib": "plot",
    "trimesh": "trimesh",
    "pyarrow": "batch",
    "ray": "ray",
    "fastapi": "serve",
    "uvicorn": "serve",
}
# Errors that a native package may raise on import when it does not fit the machine or the other packages.
_IMPORT_FAULTS = (ImportError, OSError, AttributeError, RuntimeError, SystemError, TypeError, ValueError)
_SMI_FIELDS = "name,compute_cap,memory.total,driver_version"
_REINSTALL = "reinstall topos-rt"


@dataclass
class _Findings:
    """The findings; the JSON object has the same keys."""

    topos_rt: dict[str, Any] = field(default_factory=dict)
    python: dict[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    gpus: list[str] = field(default_factory=list)
    kernels: dict[str, Any] = field(default_factory=dict)
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)
    auto: dict[str, str] | None = None
    engine_cache: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    face: dict[str, Any] = field(default_factory=dict)  # the networks that find faces
    problems: list[dict[str, str]] = field(default_factory=list)

    def problem(self, what: object, fix: object) -> None:
        self.problems.append({"problem": one_line(str(what)), "fix": one_line(str(fix))})

    def consequence(self, what: object, fix: object) -> None:
        """Add a problem, unless a broken package is reported already, which explains it."""
        if not any(package["fault"] for package in self.packages.values()):
            self.problem(what, fix)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the epilog; `topos-rt doctor` has no arguments of its own."""
    parser.epilog = "The exit code is 1 when something keeps topos-rt from generating heads here."


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Examine the machine and print the findings."""
    found = _Findings()
    found.topos_rt = {"version": __version__, "path": str(Path(__file__).parents[1])}
    found.python = {"version": platform.python_version(), "executable": sys.executable}
    found.platform = {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu_threads": usable_cores(),
    }
    _find_packages(found)
    _find_gpus(found)
    _find_kernels(found)
    _find_backends(found)
    _find_engines(found)
    _find_models(found)
    console.report.update(asdict(found))
    for line in _lines(found):
        console.say(line)
    ready = found.auto is not None and any(model["works"] for model in found.models.values())
    return 0 if ready else 1


def _find_packages(found: _Findings) -> None:
    for name, module in REQUIRED.items():
        # Without NumPy the others fail too, some with tracebacks of their own; that is still one problem.
        blocked = found.packages.get("numpy", {}).get("fault") is not None
        version, fault = _version(name), None if blocked else _import_fault(module)
        found.packages[name] = {"version": version, "extra": None, "fault": fault}
        if fault is not None:
            again = "--force-reinstall " if version else ""
            found.problem(f"{name} cannot be imported: {fault}", f"pip install {again}{name}")
    for name, extra in OPTIONAL.items():
        found.packages[name] = {"version": _version(name), "extra": extra, "fault": None}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _import_fault(module: str) -> str | None:
    try:
        import_module(module)
    except _IMPORT_FAULTS as error:
        return one_line(f"{error}" or type(error).__name__)
    return None


def _find_gpus(found: _Findings) -> None:
    if shutil.which("nvidia-smi") is None:
        if Path("/proc/driver/nvidia/version").exists():
            found.problem(
                "an NVIDIA driver is loaded, but nvidia-smi is not here", "install the driver's tools"
            )
        return
    try:
        found.gpus = [_gpu(line) for line in nvidia_smi(_SMI_FIELDS)]
    except subprocess.CalledProcessError as error:
        told = one_line(error.stdout or error.stderr or "") or f"exit code {error.returncode}"
        found.problem(f"nvidia-smi failed: {told}", "reinstall the NVIDIA driver, then restart")
    except (OSError, subprocess.TimeoutExpired) as error:
        found.problem(f"nvidia-smi failed: {error}", "restart the machine")


def _find_kernels(found: _Findings) -> None:
    """Find the CUDA kernels. Only GPUs use them, and `auto` works without them: not having them is fine."""
    built = importlib.util.find_spec("topos_rt._kernels") is not None
    fix = None if built else "install the CUDA toolkit, then topos-rt again"
    found.kernels = {"built": built, "fix": fix}


def _gpu(line: str) -> str:
    fields = [part.strip() for part in line.split(",")]
    if len(fields) != 4:
        return one_line(line)
    name, capability, memory, driver = fields
    return f"{name}, compute capability {capability}, {memory}, driver {driver}"


def _find_backends(found: _Findings) -> None:
    try:
        from topos_rt.engines import backend, choose_backend, survey

        probes = survey()
    except ImportError as error:
        found.consequence(f"the backends cannot be loaded: {error}", _REINSTALL)
        return
    for name, probe in probes.items():
        fix = None if probe.error is None else probe.error.fix
        found.backends[name] = {
            "works": probe.error is None,
            "detail": probe.detail,
            "precisions": backend(name).precisions,
            "fix": None if fix is None else str(fix),
        }
    try:
        name, reason = choose_backend()
    except ToposError as error:
        # The last fix is that of the backend which every machine can run.
        found.consequence("no backend works here", ([error.fix or _REINSTALL, *_fixes(found)])[-1])
    else:
        found.auto = {"backend": name, "reason": reason}


def _fixes(found: _Findings) -> Iterator[str]:
    return (backend["fix"] for backend in found.backends.values() if backend["fix"])


def _find_engines(found: _Findings) -> None:
    try:
        from topos_rt.engines import backend
        from topos_rt.engines.cache import EngineCache

        cache = EngineCache()
        entries = cache.entries()
    except ImportError as error:
        found.consequence(f"the engine cache cannot be read: {error}", _REINSTALL)
        return
    except ToposError as error:
        found.problem(f"{error.what}: {error.got}", error.fix)
        return
    try:
        cache.check_writable()
        fault = None
    except ToposError as error:
        fault = str(error)
        if any(told["works"] and backend(name).builds for name, told in found.backends.items()):
            found.problem(f"{error.what}: {error.got}", error.fix)
    listed = [_engine(entry) for entry in entries]
    total = sum(entry.bytes for entry in entries)
    found.engine_cache = {"path": str(cache.directory), "fault": fault, "bytes": total, "entries": listed}


def _engine(entry: Entry) -> dict[str, Any]:
    known = asdict(entry.key) if entry.key is not None else {}
    facts = ("graph", "backend", "backend_version", "compute_capability", "precision")
    used = datetime.fromtimestamp(entry.last_used, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {name: known.get(name) for name in facts}
    return {"name": entry.name, **told, "bytes": entry.bytes, "last_used": used, "fault": entry.fault}


def _find_models(found: _Findings) -> None:
    try:
        from topos_rt.faces.bundle import FaceBundle
        from topos_rt.model.bundle import Bundle, known_bundles
    except ImportError as error:
        found.consequence(f"the bundled models cannot be read: {error}", _REINSTALL)
        return
    for name, path in known_bundles().items():
        fix = _REINSTALL
        try:
            bundle = Bundle.open(name)
            manifest = bundle.manifest
            fix = "pip install --upgrade onnxruntime"
            _load_a_graph(bundle)
        except (ToposError, ImportError) as error:
            found.models[name] = {"works": False, "path": str(path), "detail": str(error)}
            found.consequence(f"the bundled model {name} cannot be used: {error}", fix)
        else:
            found.models[name] = {"works": True, "path": str(path), "detail": manifest.weights.note}
    try:
        face = FaceBundle.open()
    except (ToposError, ImportError) as error:
        found.consequence(f"faces cannot be found: {error}", _REINSTALL)
        found.face = {"works": False, "detail": str(error)}
    else:
        found.face = {"works": True, "detail": face.manifest.description}
    if not found.models:
        found.problem("this installation has no bundled model", _REINSTALL)


def _load_a_graph(bundle: Bundle) -> None:
    """Load the smallest graph of a bundle on the CPU: some versions of onnxruntime import well, yet cannot.

    Raises ToposError, ImportError.
    """
    from topos_rt.engines import EngineOptions, backend
    from topos_rt.model.sources import engine_source

    chosen = backend("onnxruntime")
    if chosen.probe().error is None:
        path, options = engine_source(bundle, "dit_modulation", chosen, EngineOptions(threads=1))
        chosen.load(path, dataclasses.replace(options, hashes={})).close()  # which keeps nothing in the cache


def _lines(found: _Findings) -> Iterator[str]:
    """Yield the findings as lines for people."""
    yield f"topos-rt  {found.topos_rt['version']} in {found.topos_rt['path']}"
    yield f"python    {found.python['version']}, {found.python['executable']}"
    system = found.platform
    yield f"system    {system['system']}, {system['machine']}, {system['cpu_threads']} CPU threads"
    yield f"GPU       {'; '.join(found.gpus) or 'no NVIDIA GPU found'}"
    missing = f"not built (optional: {found.kernels['fix']})"
    yield f"kernels   {'built' if found.kernels['built'] else missing}"
    yield "packages"
    width = max(map(len, found.packages), default=0)
    for name, package in found.packages.items():
        yield f"  {name.ljust(width)}  {_package_line(package)}"
    yield "backends"
    for name, backend in found.backends.items():
        fix = f"; fix: {backend['fix']}" if backend["fix"] else ""
        yield f"  {name.ljust(width)}  {_verdict(backend)}{fix}"
    if found.auto is not None:
        yield f"  {'auto'.ljust(width)}  takes {found.auto['backend']}: {found.auto['reason']}"
    else:
        yield f"  {'auto'.ljust(width)}  finds none that works"
    yield from _engine_lines(found)
    yield "models"
    for name, model in found.models.items():
        yield f"  {name.ljust(width)}  {_verdict(model)}"
    if found.face:
        yield f"  {'(faces)'.ljust(width)}  {_verdict(found.face)}"
    yield "problems" if found.problems else "no problems found"
    for problem in found.problems:
        yield f"  {problem['problem']}"
        yield f"    fix: {problem['fix']}"


def _engine_lines(found: _Findings) -> Iterator[str]:
    cache = found.engine_cache
    if not cache:
        return
    yield f"engines   {len(cache['entries'])}, {cache['bytes'] / 1e6:,.1f} MB in {cache['path']}"
    if cache["fault"]:
        yield f"  {cache['fault']}"
    for entry in cache["entries"]:
        if entry["fault"]:
            yield f"  {entry['name']}  not usable: {entry['fault']}"
            continue
        portable = entry["compute_capability"] == "portable"
        where = "portable" if portable else f"for compute capability {entry['compute_capability']}"
        made = f"{entry['backend']} {entry['backend_version']}, {entry['precision']}, {where}"
        yield f"  {entry['graph']}  {made}, {entry['bytes'] / 1e6:,.1f} MB, last used {entry['last_used']}"


def _verdict(part: dict[str, Any]) -> str:
    return f"{'works' if part['works'] else 'does not work'}: {part['detail']}"


def _package_line(package: dict[str, Any]) -> str:
    if package["fault"]:
        return f"{package['version'] or 'not installed'}: {package['fault']}"
    if package["version"]:
        return str(package["version"])
    if package["extra"]:
        return f"not installed (optional: pip install 'topos-rt[{package['extra']}]')"
    return "installed without metadata"
