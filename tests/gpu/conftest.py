"""The devices of these tests: the host always, and a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import needs
from topos_rt.gpu import cuda
from topos_rt.gpu.device_array import Arena


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def arena(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The memory of the device that the kernels run on."""
    if request.param == "host":
        request.getfixturevalue("host")
    else:
        needs.gpu()
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
