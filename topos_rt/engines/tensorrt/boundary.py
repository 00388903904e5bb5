"""Lets inputs and outputs of a parsed network be FP16 where the graph casts them to or from FP16 anyway.

A graph's inputs and outputs are FP32, so that any library can run it. What one engine hands to another is
read and cast at each step again; as FP16 it takes half the memory, and half as much is read, while the
numbers are the same.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def halve(trt: Any, network: Any, names: Collection[str]) -> None:
    """Make those of the named inputs and outputs FP16 that are FP32; others are left alone.

    Shapes must be static: TensorRT-RTX 1.6 does not build a network whose input of an open size was replaced.
    """
    _halve_inputs(trt, network, names)
    _halve_outputs(trt, network, names)


def _halve_inputs(trt: Any, network: Any, names: Collection[str]) -> None:
    given = [network.get_input(index) for index in range(network.num_inputs)]
    for tensor in given:
        if tensor.name not in names or tensor.dtype != trt.float32:
            continue
        name, shape = tensor.name, tuple(tensor.shape)
        readers = _readers(network, name)
        tensor.name = f"{name}.wide"
        wide = network.add_cast(network.add_input(name, trt.float16, shape), trt.float32).get_output(0)
        for layer, index in readers:
            layer.set_input(index, wide)
        network.remove_tensor(tensor)


def _halve_outputs(trt: Any, network: Any, names: Collection[str]) -> None:
    made = [network.get_output(index) for index in range(network.num_outputs)]
    for tensor in made:
        if tensor.name not in names or tensor.dtype != trt.float32:
            continue
        name = tensor.name
        network.unmark_output(tensor)
        tensor.name = f"{name}.wide"
        half = network.add_cast(tensor, trt.float16).get_output(0)
        half.name = name
        network.mark_output(half)


def _readers(network: Any, name: str) -> list[tuple[Any, int]]:
    """Return the layers that read a tensor, with the number of their input."""
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for slot in range(layer.num_inputs):
            tensor = layer.get_input(slot)
            if tensor is not None and tensor.name == name:
                found.append((layer, slot))
    return found
