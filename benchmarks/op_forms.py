"""Graph convolutions in the forms that other libraries offer, to compare the timings of ours with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from topos_rt.model.decoder_steps import Step

if TYPE_CHECKING:
    from benchmarks.op_timings import Bench, Inputs, Turned


def torch_convs(bench: Bench, step: Step, inputs: Sequence[Inputs]) -> dict[str, Turned]:
    """Return a layer in several FP16 forms: per edge like PyTorch Geometric, sparse, gathered, compiled."""
    neighbours, layer, half = step.neighbours, step.layer, torch.float16
    there = [tuple(None if array is None else bench.tensor(array) for array in pair) for pair in inputs]
    rows = None if step.residual_rows is None else bench.tensor(step.residual_rows.astype(np.int64))
    weight = bench.tensor(layer.matrix).to(half).unflatten(0, (layer.types, -1))
    bias = bench.tensor(
        layer.bias if layer.bias is not None else np.zeros((layer.types, layer.c_out), np.float32)
    )
    norm = None
    if layer.gamma is not None and layer.beta is not None:
        norm = bench.tensor(layer.gamma).to(half), bench.tensor(layer.beta).to(half)
    ends, matrices, tables = [], [], []
    for sources in neighbours.types:
        source = np.arange(neighbours.rows) if sources.indices is None else sources.indices.astype(np.int64)
        degree = np.ones(neighbours.rows, int) if sources.offsets is None else np.diff(sources.offsets)
        target = np.repeat(np.arange(neighbours.rows), degree)
        ends.append((bench.tensor(source), bench.tensor(target)))
        # FP32, because not every PyTorch has sparse products of FP16
        shape = (neighbours.rows, neighbours.inputs)
        places = torch.stack([ends[-1][1], ends[-1][0]])
        ones = torch.ones(len(source), device=bench.device)
        matrices.append(torch.sparse_coo_tensor(places, ones, shape).coalesce().to_sparse_csr())
        table = np.full((neighbours.rows, int(degree.max())), neighbours.inputs, np.int64)
        table[target, np.arange(len(target)) - np.repeat(np.cumsum(degree) - degree, degree)] = source
        tables.append(bench.tensor(table))
    degrees = torch.stack([torch.bincount(t, minlength=neighbours.rows) for _, t in ends], 1).to(half)

    def rest(y: Tensor, residual: Tensor | None) -> Tensor:
        if norm is not None:
            y = torch.nn.functional.group_norm(y, 4, *norm, 1e-3)
        if residual is not None:
            y = y + (residual if rows is None else residual[rows])
        return torch.nn.functional.silu(y) if step.silu else y

    def per_edge(x: Tensor, residual: Tensor | None) -> Tensor:
        y = torch.zeros(neighbours.rows, layer.c_out, dtype=half, device=bench.device)
        for (source, target), w, b in zip(ends, weight, bias.to(half), strict=True):
            y.index_add_(0, target, x[source] @ w + b)
        return rest(y, residual)

    def sparse(x: Tensor, residual: Tensor | None) -> Tensor:
        sums = [(m @ x.float()).to(half) for m in matrices]
        return rest(torch.cat(sums, 1) @ weight.flatten(0, 1) + degrees @ bias.to(half), residual)

    def gathered(x: Tensor, residual: Tensor | None) -> Tensor:
        with_zero = torch.cat([x, torch.zeros_like(x[:1])])
        sums = [with_zero[t].sum(1) for t in tables]
        return rest(torch.cat(sums, 1) @ weight.flatten(0, 1) + degrees @ bias.to(half), residual)

    forms: dict[str, Any] = {"per edge": per_edge, "sparse": sparse, "gathered": gathered}
    if bench.gpu:
        # "max-autotune" would take minutes. Without dynamic=False the second topology gets dynamic sizes.
        forms["compiled"] = torch.compile(gathered, dynamic=False)

    def turned(form: Callable[..., Any]) -> Turned:
        return lambda turn: form(*there[turn % len(there)])

    return {name: turned(form) for name, form in forms.items()}
