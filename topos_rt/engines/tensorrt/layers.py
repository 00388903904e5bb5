"""What a built plan consists of, as TensorRT lists it when it is asked for details: its kernels, one a line.

Only the log of the build says this on a machine without a GPU: an engine's inspector needs an engine, and
loading one needs a driver.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADING = "Layers:"  # the first line of the message
PRODUCTS = ("gemm", "runtime_fusion")  # kinds of matrix products; the second has more work fused into it
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[(?P<constants>.*)\], Outputs: \[(?P<outputs>.*)\], TacticName: (?P<rest>.*)"
)
_TENSOR = re.compile(r"Name: (.*?), Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_BYTES = {"Double": 8, "Int64": 8, "Float": 4, "Int32": 4, "Half": 2, "BFloat16": 2}  # all others take one


@dataclass(frozen=True)
class BuiltTensor:
    """An input, constant or output of a kernel."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as TensorRT writes it: "Half", "Float", "Int8", "FP8"

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * _BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class BuiltLayer:
    """A kernel of a plan, or a signal between streams."""

    name: str
    kind: str
    inputs: tuple[BuiltTensor, ...]
    constants: tuple[BuiltTensor, ...]
    outputs: tuple[BuiltTensor, ...]
    nodes: frozenset[str]  # names of the nodes of the ONNX graph that it computes

    def multiplies(self, dtype: str, least: int = 2) -> bool:
        """Tell whether it is a product of a tensor and a constant matrix, both of a data type.

        least: how long the matrix is at least on both sides.
        """
        matrices = [t for t in self.constants if len(t.shape) > 1 and min(t.shape[-2:]) >= least]
        ours = [{tensor.dtype for tensor in side} for side in (self.inputs, matrices)]
        return self.kind in PRODUCTS and all(dtype in found for found in ours)


def built_layers(messages: Iterable[str]) -> list[BuiltLayer]:
    """Return the kernels of a plan from the messages of its build; none where no details were asked for."""
    return [layer for text in messages if text.startswith(HEADING) for layer in _layers(text)]


def traffic(layers: Iterable[BuiltLayer]) -> int:
    """Return the bytes that kernels read and write but for constants, if nothing stays in a cache."""
    return sum(t.nbytes for layer in layers for t in (*layer.inputs, *layer.outputs))


def _layers(text: str) -> Iterator[BuiltLayer]:
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            inputs, constants, outputs = (
                tuple(_tensors(match[side])) for side in ("inputs", "constants", "outputs")
            )
            nodes = frozenset(_NODE.findall(match["rest"]))
            yield BuiltLayer(match["name"], match["kind"], inputs, constants, outputs, nodes)


def _tensors(text: str) -> Iterator[BuiltTensor]:
    for name, shape, dtype in _TENSOR.findall(text):
        yield BuiltTensor(name, tuple(int(size) for size in shape.split(",") if size), dtype)
