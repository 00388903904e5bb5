"""The checked entry of every kernel. NumPy arrays go to the NumPy twin, arrays on a GPU to the kernel.

An array on a GPU is anything with `__cuda_array_interface__`: `topos_rt.gpu.device_array`, PyTorch, CuPy. Its
kernel is put on `stream` (a handle; 0 is the default stream) and not waited for. Every function raises
InputError for an array of another type, shape or layout than it needs, and for arrays in different places
(the host and a GPU, or two GPUs); it raises BackendError where the kernels are not built or CUDA refuses.
Indices are checked once, when a `Neighbours` is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from topos_rt.errors import BackendError, InputError
from topos_rt.flow.program import MAX_TERMS
from topos_rt.gpu import cuda, reference
from topos_rt.gpu.checks import address, addresses, check, check_apart, check_out, device_of_all
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.gpu.layers import VECTOR, Layer
from topos_rt.gpu.tables import AnyArray, Neighbours, check_rows

_F16, _F32, _I32 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.int32)
_FLOATS = (_F16, _F32, np.dtype(np.float64))  # what the twins compute in; each kernel takes one type
_MOST = 1 << 31


def graph_conv(
    x: AnyArray,
    neighbours: Neighbours,
    layer: Layer,
    residual: AnyArray | None = None,
    residual_rows: AnyArray | None = None,
    silu: bool = True,
    *,
    out: AnyArray | None = None,
    stream: int = 0,
) -> AnyArray:
    """Compute silu(norm(sum over the types of (sum of x over a row's sources) W + degree b) + residual).

    Args:
        x: [neighbours.inputs, layer.c_in] FP16; on the host also FP32 or FP64.
        neighbours, layer: both on the host, or both `placed` on the GPU of x.
        residual: [R, layer.c_out] of the type of x, or None.
        residual_rows: [neighbours.rows] int32, the row of `residual` that each row adds; None: its own.
        silu: whether a SiLU comes last.
        out: [neighbours.rows, layer.c_out] of the type of x, overlapping no input; it must be given on a GPU.

    Returns `out`. Source: TOPOS (arXiv 2605.14594), `models/vae.py`.
    """
    device = device_of_all(x, residual, residual_rows, out, layer.matrix, *_tables(neighbours))
    _fit(neighbours, layer)
    dtype = (_F16,) if device is not None else _FLOATS
    x = check("x", x, dtype, (neighbours.inputs, layer.c_in), device)
    same = (np.dtype(x.dtype),)
    rows = residual_rows
    if rows is not None:
        rows = check("residual_rows", rows, (_I32,), (neighbours.rows,), device)
    if residual is not None:
        known = len(residual) if rows is not None and len(residual.shape) else neighbours.rows
        residual = check("residual", residual, same, (known, layer.c_out), device)
    elif rows is not None:
        raise InputError("residual_rows", got="rows", expected="None where there is no residual")
    out = check_out("out", out, same, (neighbours.rows, layer.c_out), device)
    if device is None:
        if rows is not None and residual is not None:
            check_rows("residual_rows", rows, neighbours.rows, len(residual))
        return reference.graph_conv(x, neighbours, layer, residual, rows, silu, out)
    check_apart("out", out, x=x, residual=residual)
    if layer.tiled and neighbours.tiles is None:
        raise InputError(
            "layer: packed for tiles",
            got="a gather table without tiles",
            expected="neighbours.tiled(), placed",
        )
    run_kernel(
        "graph_conv",
        edges=[(address(sources.offsets), address(sources.indices)) for sources in neighbours.types],
        tiles=address(neighbours.tiles.tables) if layer.tiled and neighbours.tiles is not None else 0,
        rows=neighbours.rows,
        silu=silu,
        stream=stream,
        **_weights(layer),
        **addresses(x=x, residual=residual, residual_rows=rows, out=out),
    )
    return out


def linear_out(
    x: AnyArray,
    layer: Layer,
    out_rows: AnyArray | None = None,
    scale: AnyArray | None = None,
    mean: AnyArray | None = None,
    *,
    out: AnyArray | None = None,
    stream: int = 0,
) -> AnyArray:
    """Compute the last layer in FP32: out[out_rows] = (x W + b) * scale + mean[out_rows].

    The kernel is graph_conv.

    Args:
        x: [rows, layer.c_in] FP16; on the host also FP32 or FP64.
        layer: one of a single type and without a norm.
        out_rows: [rows] int32, a permutation (checked on the host), or None.
        scale: [layer.c_out] FP32, or None: 1.
        mean: [rows, layer.c_out] FP32 in the order of `out`, or None: 0.
        out: [rows, layer.c_out] FP32; it must be given on a GPU.
    """
    device = device_of_all(x, layer.matrix, out_rows, scale, mean, out)
    if layer.types != 1 or layer.gamma is not None:
        raise InputError(
            "layer",
            got=f"{layer.types} types, norm: {layer.gamma is not None}",
            expected="one type and no norm",
        )
    rows = x.shape[0] if len(x.shape) else 0
    _addressable(rows, layer.c_in)
    x = check("x", x, (_F16,) if device is not None else _FLOATS, (rows, layer.c_in), device)
    wide = (_F32,) if device is not None else (np.promote_types(x.dtype, _F32),)
    shape = (rows, layer.c_out)
    places = None if out_rows is None else check("out_rows", out_rows, (_I32,), (rows,), device)
    scale = None if scale is None else check("scale", scale, (_F32,), (layer.c_out,), device)
    mean = None if mean is None else check("mean", mean, (_F32,), shape, device)
    out = check_out("out", out, wide, shape, device)
    if device is None:
        if places is not None and not np.array_equal(np.sort(places), np.arange(rows)):
            raise InputError("out_rows", got="rows that repeat or lie outside", expected="a permutation")
        return reference.linear_out(x, layer, places, scale, mean, out)
    run_kernel(
        "graph_conv",
        edges=[(0, 0)],
        rows=rows,
        stream=stream,
        **_weights(layer),
        **addresses(x=x, out32=out, out_rows=places, scale=scale, mean=mean),
    )
    return out


def flow_step(
    terms: Sequence[AnyArray], table: AnyArray, step: AnyArray, *, out: AnyArray, stream: int = 0
) -> None:
    """Compute out = sum_i table[step, i] * terms[i], then add one to step.

    This is one sum of the sampler, guidance included. Its weights are looked up on the device, so that one
    captured CUDA graph serves all steps; `topos_rt.flow.program` makes the table. A step outside of the table
    leaves `out` as it is.

    Args:
        terms: 1 to MAX_TERMS arrays of one shape, FP32.
        table: [steps, terms] FP32.
        step: [1] int32.
        out: of the shape of the terms, FP32; it may be one of the terms.
    """
    device = device_of_all(*terms, table, step, out)
    if not 1 <= len(terms) <= MAX_TERMS:
        raise InputError("flow_step", got=f"{len(terms)} terms", expected=f"1..{MAX_TERMS} terms")
    shape = tuple(terms[0].shape)
    terms = [check(f"terms[{i}]", a, (_F32,), shape, device) for i, a in enumerate(terms)]
    steps = table.shape[0] if len(table.shape) else 0
    table = check("table", table, (_F32,), (steps, len(terms)), device)
    step = check("step", step, (_I32,), (1,), device)
    out = check_out("out", out, (_F32,), shape, device)
    if device is None:
        return reference.flow_step(terms, table, step, out)
    check_apart("out", out, **{f"terms[{i}]": a for i, a in enumerate(terms) if a.address != out.address})
    run_kernel(
        "flow_step",
        terms=[address(a) for a in terms],
        steps=steps,
        size=int(np.prod(shape, dtype=np.int64)),
        stream=stream,
        **addresses(table=table, step=step, out=out),
    )
    return None


def pack_rows(
    x: AnyArray,
    columns: int,
    source_rows: AnyArray | None = None,
    *,
    out: AnyArray | None = None,
    stream: int = 0,
) -> AnyArray:
    """Return x[source_rows] in FP16, with zeros up to `columns`.

    Args:
        x: [n,c] FP32 with c <= columns.
        source_rows: [n] int32, or None: the same rows.
        out: [n, columns] FP16; it must be given on a GPU.
    """
    device = device_of_all(x, source_rows, out)
    if len(x.shape) != 2 or not 0 < x.shape[1] <= columns:
        raise InputError("x", got=f"shape {list(x.shape)}", expected=f"[n,c] with 1 to {columns} columns")
    n, c = x.shape
    x = check("x", x, (_F32,), (n, c), device)
    rows = None if source_rows is None else check("source_rows", source_rows, (_I32,), (n,), device)
    out = check_out("out", out, (_F16,), (n, columns), device)
    if device is None:
        if rows is not None:
            check_rows("source_rows", rows, n, n)
        return reference.pack_rows(x, columns, rows, out)
    places = addresses(x=x, source_rows=rows, out=out)
    run_kernel("pack_rows", rows=n, c_in=c, c_out=columns, stream=stream, **places)
    return out


def project(
    x: AnyArray,
    basis: AnyArray,
    *,
    scratch: AnyArray | None = None,
    out: AnyArray | None = None,
    stream: int = 0,
) -> AnyArray:
    """Return the part of a vector in the span of orthonormal rows: basis^T (basis x).

    Args:
        x: [n] FP32.
        basis: [k,n] FP32.
        scratch: [k] FP32; it must be given on a GPU.
        out: [n] FP32; it may be x, and must be given on a GPU.
    """
    device = device_of_all(x, basis, scratch, out)
    n = int(np.prod(x.shape, dtype=np.int64))
    directions = basis.shape[0] if len(basis.shape) else 0
    x = check("x", x, (_F32,), (n,), device)
    basis = check("basis", basis, (_F32,), (directions, n), device)
    out = check_out("out", out, (_F32,), (n,), device)
    if device is None:
        return reference.project(x, basis, out)
    scratch = check_out("scratch", scratch, (_F32,), (directions,), device)
    places = addresses(x=x, basis=basis, coordinates=scratch, out=out)
    run_kernel("project", directions=directions, size=n, stream=stream, **places)
    return out


def add_moves(
    coordinates: AnyArray, rows: AnyArray, base: AnyArray, *, out: AnyArray | None = None, stream: int = 0
) -> AnyArray:
    """Return base with coordinates times rows added to its first columns: a linear decoder's vertices.

    Args:
        coordinates: [k] FP32, such as `project` leaves in its scratch.
        rows: [k,v,m] FP32, what one unit of each coordinate adds.
        base: [v,c] FP32, with m <= c.
        out: [v,c] FP32; it may be base, and must be given on a GPU.
    """
    device = device_of_all(coordinates, rows, base, out)
    if len(rows.shape) != 3 or len(base.shape) != 2 or not 0 < rows.shape[2] <= base.shape[1]:
        got = f"shapes {list(rows.shape)} and {list(base.shape)}"
        raise InputError("rows and base", got=got, expected="[k,v,m] and [v,c] with 0 < m <= c")
    (directions, vertices, moved), columns = rows.shape, base.shape[1]
    coordinates = check("coordinates", coordinates, (_F32,), (directions,), device)
    rows = check("rows", rows, (_F32,), (directions, vertices, moved), device)
    base = check("base", base, (_F32,), (vertices, columns), device)
    out = check_out("out", out, (_F32,), (vertices, columns), device)
    if device is None:
        return reference.add_moves(coordinates, rows, base, out)
    places = addresses(coordinates=coordinates, rows=rows, base=base, out=out)
    sizes = {"directions": directions, "vertices": vertices, "moved": moved, "columns": columns}
    run_kernel("add_moves", **sizes, stream=stream, **places)
    return out


def kernels() -> Any:
    """Return the compiled extension. Raises BackendError where it was not built."""
    try:
        return import_module("topos_rt._kernels")
    except ImportError as error:
        raise BackendError(
            "the CUDA kernels are not there",
            got=error,
            expected="an installation made where nvcc is",
            fix="install the CUDA toolkit, then: pip install --force-reinstall --no-deps topos-rt",
        ) from error


def tiles_here() -> bool:
    """Return whether the current GPU can run graph_conv_tiled, and it was built for that GPU."""
    return bool(kernels().TILED) and cuda.current_device().compute_capability == "9.0"


def run_kernel(name: str, **arguments: Any) -> None:
    """Launch a kernel by its name. Raises BackendError where it is not there or CUDA refuses."""
    launcher: Callable[..., None] = getattr(kernels(), name)
    try:
        launcher(**arguments)
    except RuntimeError as error:
        raise BackendError(f"kernel {name}", got=error, fix="use the engine decoder") from error


def _fit(neighbours: Neighbours, layer: Layer) -> None:
    if len(neighbours.types) != layer.types:
        raise InputError(
            "neighbours and layer",
            got=f"{len(neighbours.types)} and {layer.types} edge types",
            expected="the same number",
        )
    _addressable(neighbours.inputs, layer.c_in)
    if isinstance(layer.matrix, DeviceArray) and layer.c_in % VECTOR:
        raise InputError("layer", got=f"{layer.c_in} input channels", expected=f"a multiple of {VECTOR}")


def _addressable(rows: int, columns: int) -> None:
    """Raise InputError for more numbers in x than the kernel counts in 32 bits."""
    if rows * columns >= _MOST:
        raise InputError(
            "x", got=f"{rows} x {columns} numbers", expected=f"less than {_MOST}", fix="split the table"
        )


def _tables(neighbours: Neighbours) -> list[AnyArray | None]:
    return [array for sources in neighbours.types for array in (sources.offsets, sources.indices)]


def _weights(layer: Layer) -> dict[str, int]:
    """Return the arguments of a launcher that describe a layer."""
    there = addresses(weights=layer.matrix, bias=layer.bias, gamma=layer.gamma, beta=layer.beta)
    return {"c_in": layer.c_in, "c_out": layer.c_out, **there}
