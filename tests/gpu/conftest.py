"""Where the kernels run in these tests: on a GPU if there is one, and on the host always."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests import needs
from tests.gpu import host_gpu
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena


@pytest.fixture
def host(host_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[host_gpu.HostCuda]:
    """The kernels on the host."""
    fake = host_gpu.HostCuda(host_module)
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    monkeypatch.setattr(ops, "kernels", lambda: fake)
    yield fake
    for address in list(fake.blocks):
        fake.check(address)


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def arena(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Memory of the device that kernels run on."""
    if request.param == "host":
        request.getfixturevalue("host")
    else:
        needs.gpu()
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
