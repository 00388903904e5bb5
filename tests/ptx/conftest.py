"""The kernels as nvcc makes them, run by `tests.ptx.machine`."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests import needs
from tests.gpu import host_gpu
from tests.ptx.device import Machine
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena


@pytest.fixture
def machine(host_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    needs.nvcc()
    fake = host_gpu.HostCuda(host_module)
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    monkeypatch.setattr(ops, "kernels", lambda: fake)
    made = Machine(fake)
    host_module.record(made)
    yield made
    host_module.record(None)
    for address in list(fake.blocks):
        fake.check(address)


@pytest.fixture
def arena(machine: Machine) -> Iterator[Any]:
    """Memory of that device."""
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
