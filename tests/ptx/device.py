"""Launches of csrc/, run as the PTX that nvcc makes of the kernels."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests import needs
from tests.gpu import host_gpu
from tests.ptx.machine import Block
from tests.ptx.memory import Global
from tests.ptx.source import Kernel, kernel_of

_TYPE = re.compile(r"N5topos12_GLOBAL__N_1(.*)E")  # the typeid of a class in an anonymous namespace


@cache
def compiled(source: str, architecture: str) -> str:
    """Compile a source of csrc/ to PTX."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "out.ptx"
        words = [needs.nvcc(), "-std=c++17", "-O3", f"-arch={architecture}", "-ptx", source, "-o", str(path)]
        subprocess.run(words, check=True)
        return path.read_text()


parsed = cache(kernel_of)


@dataclass(frozen=True)
class Launch:
    """A launch that has run."""

    kernel: str
    blocks: int
    counts: Counter[str]  # of all its blocks
    sectors: int  # distinct sectors of each block, summed


@dataclass
class Machine:
    """Runs launches; see `record` in csrc/bindings.cpp.

    order: None, "forward" or "backward", see `Block`. only: the blocks of each launch that run; None: all.
    edit: changes the PTX before it is run.
    """

    device: host_gpu.HostCuda
    architecture: str = "sm_90a"
    order: str | None = None
    only: tuple[int, ...] | None = None
    edit: Callable[[str], str] = str
    launches: list[Launch] = field(default_factory=list)

    def __call__(self, source: str, type_: str, blocks: int, threads: int, shared: int, body: bytes) -> None:
        kernel = self._kernel(source, type_)
        assert kernel.threads == threads and list(kernel.parameters.values()) == [len(body)]
        memory, counts, distinct = Global(self.device), Counter[str](), 0
        for number in range(blocks) if self.only is None else self.only:
            block = Block(kernel, number, shared, body, memory, self.order)
            block.run()
            counts += block.counts
            distinct += len(block.sectors)
        self.launches.append(Launch(f"{Path(source).name}: {type_}", blocks, counts, distinct))

    def _kernel(self, source: str, type_: str) -> Kernel:
        """Find a kernel by what follows the anonymous namespace, which nvcc names in its own way."""
        body = _TYPE.fullmatch(type_)
        assert body is not None, type_
        return parsed(self.edit(compiled(source, self.architecture)), f"{body[1]}EEEvT_")
