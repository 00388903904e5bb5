"""Where the kernels run in these tests: on a GPU if there is one, and on the host always."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import needs
from topos_rt.gpu import cuda
from topos_rt.gpu.device_array import Arena


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def arena(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Memory of the device that kernels run on."""
    if request.param == "host":
        request.getfixturevalue("host")
    else:
        needs.gpu()
    with cuda.Stream() as stream, Arena(stream) as made:
        yield made
