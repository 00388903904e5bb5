"""Where the kernels run in these tests: on a GPU if there is one, and on the host always."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from topos_rt.errors import BackendError
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena


def gpu_missing() -> str | None:
    """Why the kernels cannot run on a GPU here, or None."""
    try:
        ops.kernels()
        return None if cuda.device_count() else "no NVIDIA GPU"
    except (ImportError, BackendError, cuda.CudaError) as error:
        return str(error)


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def arena(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Memory of the device that kernels run on."""
    if request.param == "host":
        request.getfixturevalue("host")
    elif (why := gpu_missing()) is not None:
        pytest.skip(why)
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
