"""Fixtures that the tests of exports share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from torch.onnx._internal.exporter import _registration


@pytest.fixture(scope="session", autouse=True)
def _operators_parsed_once() -> Iterator[None]:
    """PyTorch parses its 500 operators anew for every graph, which is a quarter of the time of an export."""
    with pytest.MonkeyPatch.context() as patch:
        apis = _registration.onnxscript_apis
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield
