"""The kernels on the host: csrc/ built by a C++ compiler, and a CUDA whose device memory is the host's.

There `launch.h` turns every kernel into loops over blocks and warps, and `mma.h` takes the tensor cores'
fragments apart lane by lane. So tests run the real index maths, tile remainders, order of operations and FP16
rounding.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests import needs
from topos_rt.support.machine import usable_cores

CSRC = Path(__file__).parents[2] / "csrc"
# Products are not fused, so that sums are those of the twins on every processor.
_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
_GUARD = 256
_POISON = 0xFF  # NaN as FP16 and as FP32


def size_of(block: np.ndarray) -> int:
    """Return the bytes of an allocation without its guards."""
    return len(block) - 2 * _GUARD - 256


def build(directory: Path, *more: str, bindings: Path | None = None) -> Path:
    """Compile csrc/ for the host into an extension module.

    more: flags after those of every build. bindings: an object file of bindings.cpp, to take it as it is.
    """
    import pybind11

    includes = [f"-I{path}" for path in (sysconfig.get_path("include"), pybind11.get_include())]
    compile_ = needs.compiler()

    def compiled(source: Path) -> str:
        made = directory / f"{source.name}.o"
        words = [compile_, *_FLAGS, *more, *includes, "-x", "c++", "-c", str(source), "-o", str(made)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(made)

    sources = sorted(CSRC.glob("*.cu")) + ([] if bindings else [CSRC / "bindings.cpp"])
    with ThreadPoolExecutor(usable_cores()) as pool:
        objects = [*pool.map(compiled, sources), *([str(bindings)] if bindings else [])]
    module = directory / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([compile_, "-shared", *more, *objects, "-o", str(module)], check=True)
    return module


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("topos_rt._kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def reversed_warps(module: ModuleType) -> Iterator[None]:
    """Run the warps of every block from the last to the first meanwhile."""
    module.reverse_warps(True)
    try:
        yield
    finally:
        module.reverse_warps(False)


class HostCuda:
    """The functions of `cuda.bindings.runtime` that `topos_rt.gpu.cuda` calls, and the module of kernels.

    Memory is poisoned when it is allocated, and fenced by guards that are checked when it is freed. During a
    capture, work is recorded and not done.
    """

    cudaError_t = SimpleNamespace(cudaSuccess=0)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaMemoryType = SimpleNamespace(cudaMemoryTypeUnregistered=0, cudaMemoryTypeHost=1)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking = 1

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.blocks: dict[int, np.ndarray] = {}
        self.recording: list[Callable[[], Any]] | None = None
        self.calls: list[str] = []
        self.cuda_graphs = 0

    def __getattr__(self, name: str) -> Any:
        launcher = getattr(self.module, name)
        if not callable(launcher):
            return launcher

        def call(**arguments: Any) -> None:
            self.calls.append(name)
            self._do(lambda: launcher(**arguments))

        return call

    def _do(self, work: Callable[[], Any]) -> None:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def cudaGetDevice(self) -> Any:
        return 0, 0

    def cudaGetDeviceProperties(self, ordinal: int) -> Any:
        return 0, SimpleNamespace(name=b"host", major=9, minor=0, totalGlobalMem=1 << 30)

    def cudaPointerGetAttributes(self, address: int) -> Any:
        return 0, SimpleNamespace(type=2, device=1)  # memory of another GPU, which nobody allocated here

    def cudaMalloc(self, size: int) -> Any:
        assert self.recording is None, "an allocation while recording"
        block = np.full(size + 2 * _GUARD + 256, _POISON, np.uint8)
        address = -(-(block.ctypes.data + _GUARD) // 256) * 256
        self.blocks[address] = block
        return 0, address

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> Any:
        self.check(address)
        del self.blocks[address]
        return (0,)

    cudaFreeHost = cudaFree

    def check(self, address: int) -> None:
        block = self.blocks[address]
        before = block[: address - block.ctypes.data]
        after = block[len(before) + len(block) - 2 * _GUARD - 256 :]
        assert (before == _POISON).all() and (after == _POISON).all(), "written outside of an allocation"

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: Any) -> Any:
        self._do(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        return 0, 7

    def cudaStreamDestroy(self, stream: Any) -> Any:
        return (0,)

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        assert self.recording is None, "a wait while recording"
        return (0,)

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        recorded, self.recording = self.recording, None
        self.cuda_graphs += 1
        return 0, recorded

    def cudaGraphInstantiate(self, recorded: Any, flags: int) -> Any:
        return 0, list(recorded)

    def cudaGraphDestroy(self, recorded: Any) -> Any:
        return (0,)

    def cudaGraphExecDestroy(self, executable: Any) -> Any:
        self.cuda_graphs -= 1
        return (0,)

    def cudaGraphLaunch(self, executable: Any, stream: Any) -> Any:
        for work in executable:
            work()
        return (0,)
