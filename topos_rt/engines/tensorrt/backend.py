"""NVIDIA's TensorRT and TensorRT-RTX behind one implementation; they differ in the module and few facts.

TensorRT-RTX builds plans on any machine for all the GPUs that it supports, and compiles their kernels at
first use. TensorRT builds a plan on the GPU that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from topos_rt.engines.cache import BuildReport, EngineCache, EngineKey, Found, warn
from topos_rt.engines.contract import Engine, EngineOptions, Probe
from topos_rt.engines.locations import require_inside
from topos_rt.engines.tensorrt.build import Messages, build, build_smallest
from topos_rt.engines.tensorrt.eightbit import EIGHT_BIT
from topos_rt.engines.tensorrt.engine import TensorRTEngine
from topos_rt.engines.tensorrt.memory import Workspace
from topos_rt.engines.tensorrt.plan import LoadedPlan, PlanRefused
from topos_rt.errors import (
    BackendError,
    BundleError,
    Cancelled,
    InputError,
    MissingExtraError,
    OptionError,
    OutputError,
    one_line,
)
from topos_rt.gpu import cuda
from topos_rt.support.machine import sha256_of
from topos_rt.support.progress import cancels

T = TypeVar("T")
RECIPE = 1  # the version of `build`; raise it when the same graph gives another plan
PORTABLE = "portable"
# What the import of a native package raises where it is missing or does not fit the machine.
_IMPORT_FAULTS = (ImportError, OSError, AttributeError, RuntimeError)
_INSTALL_DRIVER = "install the NVIDIA driver if there is an NVIDIA GPU, else use the backend onnxruntime"


@dataclass(frozen=True)
class Plan:
    """A plan, and where it came from."""

    key: EngineKey
    data: bytes
    build: BuildReport
    built: bool  # just now; False: it was in the cache
    reason: str  # why it was built or not
    kept: bool = True  # False: the cache could not be written to


@dataclass(frozen=True)
class TensorRT:
    """One of the two libraries, as a backend."""

    name: str
    module: str
    extra: str
    flags: tuple[str, ...]
    needs_gpu: bool  # to build
    precisions: tuple[str, ...]

    on_device = True
    builds = True
    gains_at_once = True

    def probe(self) -> Probe:
        """Check the package, the driver and the GPU. Raises nothing."""
        try:
            trt = self._import()
        except MissingExtraError as error:
            return Probe(one_line(str(error.got or "not installed")), error)
        told = f"{self.name} {trt.__version__}"
        try:
            device = self._device()
            major, minor = cuda.driver_version()
        except InputError as error:
            builds = "" if self.needs_gpu else " builds engines here, but cannot run them"
            return Probe(one_line(f"{told}{builds}: {error.got}"), error)
        told += (
            f" on {device.name}, {device.bytes / 2**30:.0f} GiB, compute capability "
            f"{device.compute_capability}, driver for CUDA {major}.{minor}"
        )
        listed = set() if self.needs_gpu else _listed(trt)
        if listed and device.slug.upper() not in listed:
            return self._try(trt, told, f"not on {self.name}'s list ({', '.join(sorted(listed))})")
        return Probe(told)

    def check_builds(self) -> str:
        """Return the version of the package, if this machine can build plans.

        Raises:
            MissingExtraError: the package is not installed.
            InputError: a GPU is needed, and there is none.
        """
        trt = self._import()
        if self.needs_gpu:
            self._device()
        return str(trt.__version__)

    def plan(self, path: Path, options: EngineOptions, *, must_keep: bool = False) -> Plan:
        """Return the plan of an ONNX file from the cache, or build it and store it there.

        Where the cache cannot be written to, the plan is still used, with an EngineCacheWarning; with
        `must_keep` an OutputError is raised instead, before the build where possible.

        Raises:
            BundleError, BackendError, Cancelled: as `topos_rt.engines.tensorrt.build.build`.
            InputError, MissingExtraError: as `check_builds`.
        """
        trt = self._import()
        cache, key = EngineCache(options.cache), self._key(trt, path, options)
        found = cache.find(key)
        if isinstance(found, Found):
            return Plan(key, found.plan, found.build, False, "in the cache")
        if must_keep:
            cache.check_writable()

        def waiting() -> None:
            if options.progress is not None and cancels(options.progress(path.stem, 0.0)):
                raise Cancelled("cancelled by the callback", got=f"waiting for the build of {path.name}")

        with cache.lock(key, waiting):
            again = cache.find(key)
            if isinstance(again, Found):
                return Plan(key, again.plan, again.build, False, "built by another process meanwhile")
            require_inside(path, options.hashes)
            form = EIGHT_BIT.get(options.precision or "")
            data, report = build(trt, path, options.progress, self.flags, form, options.halved)
            try:
                cache.store(key, data, report)
            except OutputError as error:
                if must_keep:
                    raise
                warn(f"{error}; until then the engine is built at each start")
                return Plan(key, data, report, True, found, kept=False)
        return Plan(key, data, report, True, found)

    def requirements(self, path: Path, options: EngineOptions) -> Mapping[str, int]:
        """Return bytes on the device by kind, before anything is loaded there; build what is not cached."""
        return self.plan(path, options).build.memory

    def workspace(self) -> Workspace:
        """Return a stream and an arena on the current GPU.

        Raises:
            InputError, MissingExtraError: the package, the driver or the GPU is missing.
            BackendError: CUDA fails.
        """
        self._import()
        self._device()
        try:
            return Workspace()
        except cuda.CudaError as error:
            raise BackendError(f"the {self.name} backend", got=error, fix=_INSTALL_DRIVER) from error

    def load(self, path: Path, options: EngineOptions) -> TensorRTEngine:
        """Load an ONNX file through the cache of plans.

        Raises:
            InputError, MissingExtraError: the package, the driver or the GPU is missing.
            OptionError: the GPU has no products of the precision.
            BundleError, BackendError, Cancelled: the plan cannot be built, or cannot be run here.
        """
        trt = self._import()

        def load(plan: Plan, kernels: Path | None) -> TensorRTEngine:
            return TensorRTEngine(trt, plan.key.graph, plan.data, kernels, options.workspace)

        return self._loaded(path, options, load)

    def load_at_once(self, path: Path, options: EngineOptions, numbers: Sequence[int]) -> dict[int, Engine]:
        """Load an ONNX file for several numbers of heads, with its weights on the GPU once; see `load`."""
        trt = self._import()

        def load(plan: Plan, kernels: Path | None) -> dict[int, Engine]:
            name, held = plan.key.graph, ExitStack()
            with held:
                loaded = LoadedPlan(trt, name, plan.data, kernels, Messages(trt))
                engines: dict[int, Engine] = {
                    number: held.enter_context(
                        TensorRTEngine(trt, name, loaded, workspace=options.workspace, number=number)
                    )
                    for number in numbers
                }
                held.pop_all()
            return engines

        return self._loaded(path, options, load)

    def _loaded(self, path: Path, options: EngineOptions, load: Callable[[Plan, Path | None], T]) -> T:
        """Load a plan from the cache, and build it anew where TensorRT refuses what is there."""
        device, cache = self._device(), EngineCache(options.cache)
        _check_multiplies(device, options.precision)

        def kernels(plan: Plan) -> Path | None:
            return cache.runtime_cache(plan.key, device.slug) if plan.kept else None

        plan = self.plan(path, options)
        try:
            return load(plan, kernels(plan))
        except PlanRefused as error:
            if plan.built or not error.stale:
                raise
            cache.discard(plan.key)
            warn(f"{error.what}: {error.got}; it is built anew")
        plan = self.plan(path, options)
        return load(plan, kernels(plan))

    def _key(self, trt: Any, path: Path, options: EngineOptions) -> EngineKey:
        def hashed(file: Path) -> str:
            return options.hashes.get(file) or sha256_of(file)

        try:
            graph, weights = hashed(path), {file.name: hashed(file) for file in options.weights}
        except OSError as error:
            raise BundleError(
                f"graph {path.name}",
                got=error.strerror or error,
                expected="an ONNX file with its weights beside it",
                fix="export the bundle again",
            ) from error
        form = EIGHT_BIT.get(options.precision or "")
        made_for = PORTABLE if form is None or not form.capabilities else "+".join(form.capabilities)
        capability = self._device().compute_capability if self.needs_gpu else made_for
        precision = options.precision or "the graph's own precision"
        halved = ", ".join(sorted(options.halved))
        version = str(trt.__version__)
        return EngineKey(path.name, graph, weights, self.name, version, capability, precision, RECIPE, halved)

    def _import(self) -> Any:
        what = f"the {self.name} backend"
        try:
            trt = import_module(self.module)
            cuda.runtime()
        except ModuleNotFoundError as error:
            raise MissingExtraError.needs(what, self.extra) from error
        except _IMPORT_FAULTS as error:
            fix = f"pip install --force-reinstall 'topos-rt[{self.extra}]'"
            raise MissingExtraError(f"{what} cannot be loaded", got=error, fix=fix) from error
        return trt

    def _device(self) -> cuda.Device:
        what = f"the {self.name} backend needs an NVIDIA GPU and its driver"
        try:
            if cuda.driver_version() == (0, 0):
                raise InputError(what, got="no driver", fix=_INSTALL_DRIVER)
            if cuda.device_count() == 0:
                raise InputError(what, got="a driver, but no GPU", fix=_INSTALL_DRIVER)
            return cuda.current_device()
        except cuda.CudaError as error:
            if error.name != cuda.DRIVER_TOO_OLD:
                raise InputError(what, got=error, fix=_INSTALL_DRIVER) from error
            (has, part), (needs, minor) = cuda.driver_version(), cuda.runtime_version()
            raise InputError(
                what,
                got=f"a driver for CUDA {has}.{part}",
                expected=f"CUDA {needs}.{minor}",
                fix="update the NVIDIA driver",
            ) from error

    def _try(self, trt: Any, told: str, off_list: str) -> Probe:
        """Run a trial engine, to find out whether a GPU that is not on the list works."""
        try:
            with TensorRTEngine(trt, "a trial", build_smallest(trt)) as trial:
                trial.run({"x": np.ones(1, np.float32)})
        except BackendError as error:
            return Probe(f"{told}, {off_list}, and a trial fails: {error.got}", error)
        return Probe(f"{told}, {off_list}, yet a trial runs")


def _listed(trt: Any) -> set[str]:
    """Return the compute capabilities that plans are built for, as "SM89"; empty if the module has none."""
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return {name for name in members if name.startswith("SM")}


def _check_multiplies(device: cuda.Device, precision: str | None) -> None:
    """Raise OptionError where a GPU cannot multiply numbers of a precision."""
    form = EIGHT_BIT.get(precision or "")
    found = device.compute_capability
    if form is not None and tuple(map(int, found.split("."))) < form.least_capability:
        raise OptionError(
            "precision",
            got=f"{precision!r} on {device.name}, compute capability {found}",
            expected="compute capability {}.{} or newer".format(*form.least_capability),
            fix="leave it out, or choose another precision",
        )


RTX = TensorRT(
    name="tensorrt-rtx",
    module="tensorrt_rtx",
    extra="tensorrt-rtx",
    flags=("REQUIRE_USER_ALLOCATION",),
    needs_gpu=False,
    precisions=("fp16", "fp32", *EIGHT_BIT),
)
# Which kernels it made of 8-bit layers can only be read where it runs, and it has not run yet.
FULL = TensorRT("tensorrt", "tensorrt", "tensorrt", (), needs_gpu=True, precisions=("fp16", "fp32"))
