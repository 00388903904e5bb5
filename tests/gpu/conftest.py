"""The devices of these tests: the host always, and a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from topos_rt.errors import BackendError
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena


def gpu_missing() -> str | None:
    """Return why the kernels cannot run on a GPU here, or None."""
    try:
        ops.kernels()
        return None if cuda.device_count() else "no NVIDIA GPU"
    except (ImportError, BackendError, cuda.CudaError) as error:
        return str(error)


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def arena(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The memory of the device that the kernels run on."""
    if request.param == "host":
        request.getfixturevalue("host")
    elif (why := gpu_missing()) is not None:
        pytest.skip(why)
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
