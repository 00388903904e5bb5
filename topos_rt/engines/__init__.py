"""Inference engines behind one contract: the code above this room does not know which library runs.

To add a backend, write a module, or an object in one, with the members of `Backend`, and a line in
`BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from topos_rt.engines.contract import Backend, Engine, EngineOptions, Probe
from topos_rt.errors import BackendError, choose
from topos_rt.gpu import cuda

if TYPE_CHECKING:
    from topos_rt.engines.tensorrt.backend import TensorRT

__all__ = [
    "AUTO",
    "BACKENDS",
    "BUILDERS",
    "Engine",
    "EngineOptions",
    "Probe",
    "backend",
    "builder",
    "choose_backend",
    "survey",
]

AUTO: Final = "auto"

# The best first: "auto" takes the first that works. A module, or "module:object"; imported on demand.
BACKENDS: dict[str, str] = {
    "tensorrt-rtx": "topos_rt.engines.tensorrt.backend:RTX",
    "tensorrt": "topos_rt.engines.tensorrt.backend:FULL",
    "onnxruntime": "topos_rt.engines.onnxruntime",
}
# The backends that need an NVIDIA driver, and whose engines `topos-rt build` builds.
BUILDERS = {name: BACKENDS[name] for name in ("tensorrt-rtx", "tensorrt")}


def backend(name: str) -> Backend:
    """Return the backend called `name`. Raises OptionError for an unknown name."""
    return cast(Backend, _find(choose(name, BACKENDS, "backend")))


def builder(name: str) -> TensorRT:
    """Return the backend called `name` if it builds engines. Raises OptionError for any other name."""
    return cast("TensorRT", _find(choose(name, BUILDERS, "backend that builds engines")))


def _find(place: str) -> object:
    module, _, name = place.partition(":")
    found: object = import_module(module)
    return getattr(found, name) if name else found


def survey(names: Iterable[str] = BACKENDS) -> dict[str, Probe]:
    """Probe each backend, the best first."""
    return {name: backend(name).probe() for name in names}


def choose_backend(name: str = AUTO) -> tuple[str, str]:
    """Settle on a backend; return its name and the reason.

    Raises:
        OptionError: `name` is neither "auto" nor a backend.
        BackendError: `name` is "auto", and no backend works here.
        InputError: the backend does not work here (MissingExtraError where something is not installed).
    """
    if name != AUTO:
        if name not in BACKENDS:
            choose(name, {AUTO: "", **BACKENDS}, "backend")
        probe = backend(name).probe()
        if probe.error is not None:
            raise probe.error
        return name, f"asked for; {probe.detail}"
    # Loading TensorRT only to learn that there is no driver would be the longest part of a start on a CPU.
    runs = [name for name in BACKENDS if name not in BUILDERS or cuda.has_driver()]
    probes = survey(runs)
    for found, probe in probes.items():
        if probe.error is None:
            return found, f"the best that works here; {probe.detail}"
    details = dict.fromkeys(BUILDERS, "no NVIDIA driver") | {k: probe.detail for k, probe in probes.items()}
    reasons = ", ".join(f"{name}: {detail}" for name, detail in details.items())
    raise BackendError("no backend works here", got=reasons, fix="see topos-rt doctor")
