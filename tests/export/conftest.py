"""Fixtures that the tests of exports share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch.onnx._internal.exporter import _registration


@pytest.fixture(scope="session", autouse=True)
def _operators_parsed_once() -> Iterator[None]:
    """PyTorch parses its 500 operators anew for every graph, which is a quarter of the time of an export."""
    with pytest.MonkeyPatch.context() as patch:
        apis = _registration.onnxscript_apis
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer over tiny tensors than one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
