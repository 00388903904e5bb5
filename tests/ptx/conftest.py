"""The kernels as nvcc makes them, run by `tests.ptx.machine`."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests import needs
from tests.gpu import host_gpu
from tests.ptx.device import Machine
from topos_rt.gpu import cuda
from topos_rt.gpu.device_array import Arena


@pytest.fixture
def machine(host: host_gpu.HostCuda, host_module: ModuleType) -> Iterator[Machine]:
    needs.nvcc()
    made = Machine(host)
    host_module.record(made)
    yield made
    host_module.record(None)


@pytest.fixture
def arena(machine: Machine) -> Iterator[Any]:
    """The memory of that device."""
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
