"""The weights of one kernel launch, in the order in which the tensor cores take them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import InputError
from topos_rt.gpu.tables import AnyArray, Put, replace_unchecked

# These sizes are those of csrc/kernels.h.
WIDTHS = (8, 16, 32, 48, 64, 96, 128, 256, 512)
GROUPS = 4
GROUP_EPS = 1e-3
CHUNK = 32
VECTOR = 8
WIDE = 128  # from this width on a lane has whole vectors of columns, and weights are `centred`
WINDOW = 64  # columns of x that graph_conv_tiled multiplies together
SLICES = {128: 128, 256: 256, 512: 128}  # width of a layer -> columns of a block of graph_conv_tiled
_SLAB = 16  # rows of the weights that one instruction takes


@dataclass(frozen=True, eq=False)
class Layer:
    """A typed linear map and the group norm that follows it.

    Raises InputError for shapes that do not fit together. On a device, `matrix` holds `pack(matrix)`; where
    the layer is `tiled` it holds what `pack_tiled` makes of matrix and bias, and `bias` is None. Matrix and
    bias are `centred` before where there is a norm and the layer is wide.
    """

    matrix: AnyArray  # [types * c_in, c_out] float32: [W_0; W_1], used as x W
    types: int = 1
    bias: AnyArray | None = None  # [types, c_out] float32, added once per edge
    gamma: AnyArray | None = None  # [c_out] float32 of the group norm; None: no norm
    beta: AnyArray | None = None
    c_in: int = dataclasses.field(init=False)
    c_out: int = dataclasses.field(init=False)
    tiled: bool = dataclasses.field(init=False, default=False)

    def __post_init__(self) -> None:
        rows, c_out = _shape("matrix", self.matrix, 2)
        if self.types not in (1, 2) or rows == 0 or rows % self.types or c_out == 0:
            raise InputError(
                "layer: matrix",
                got=f"[{rows},{c_out}] for {self.types} types",
                expected="[types * c_in, c_out] with 1 or 2 types, nothing empty",
            )
        object.__setattr__(self, "c_in", rows // self.types)
        object.__setattr__(self, "c_out", c_out)
        if self.bias is not None and _shape("bias", self.bias, 2) != (self.types, c_out):
            raise InputError(
                "layer: bias", got=f"{list(self.bias.shape)}", expected=f"[{self.types},{c_out}]"
            )
        if (self.gamma is None) != (self.beta is None):
            raise InputError("layer: norm", got="one of gamma and beta", expected="both or none")
        for name in ("gamma", "beta"):
            value = getattr(self, name)
            if value is not None and _shape(name, value, 1) != (c_out,):
                raise InputError(f"layer: {name}", got=f"{list(value.shape)}", expected=f"[{c_out}]")
        if self.gamma is not None and c_out % (2 * GROUPS):
            raise InputError(
                "layer: channels of a group norm", got=c_out, expected=f"a multiple of {2 * GROUPS}"
            )

    @property
    def tileable(self) -> bool:
        """Whether graph_conv_tiled was compiled for its widths."""
        return self.c_in % WINDOW == 0 and self.c_out in SLICES

    def placed(self, put: Put, tiled: bool = False) -> Layer:
        """Return a copy on a device. Raises InputError for widths that no kernel was compiled for.

        tiled: for graph_conv_tiled, with a gather table that has tiles; the layer must be `tileable`.
        """
        if tiled and not self.tileable:
            raise InputError(
                "layer: channels of the tiled kernel",
                got=f"{self.c_in} -> {self.c_out}",
                expected=f"a multiple of {WINDOW} -> one of {', '.join(map(str, SLICES))}",
            )
        if self.c_in % VECTOR:
            raise InputError(
                "layer: input channels",
                got=self.c_in,
                expected=f"a multiple of {VECTOR}",
                fix="fill up with zero rows, see `widened`, or use the engine decoder",
            )
        whole = VECTOR if padded(self.c_out) >= WIDE else 2
        if padded(self.c_out) not in WIDTHS or self.c_out % whole:
            raise InputError(
                "layer: output channels",
                got=self.c_out,
                fix="use the engine decoder",
                expected=f"one of {', '.join(map(str, WIDTHS))}; below {WIDE} also a little less, and even",
            )
        matrix, bias = self.matrix, self.bias
        if self.gamma is not None and self.c_out >= WIDE:
            matrix, bias = centred(matrix), None if bias is None else centred(bias)
        packed = pack_tiled(matrix, self.types, bias) if tiled else pack(matrix)
        rest = {"bias": None if tiled else bias, "gamma": self.gamma, "beta": self.beta}
        there = {name: None if a is None else put(np.ascontiguousarray(a)) for name, a in rest.items()}
        moved: Layer = replace_unchecked(self, matrix=put(packed), tiled=tiled, **there)
        return moved

    def widened(self) -> Layer:
        """Return a copy with zero rows after each type's, so that the input channels are a multiple of 8."""
        more = padded(self.c_in) - self.c_in
        blocks = self.matrix.reshape(self.types, self.c_in, self.c_out)
        matrix = np.pad(blocks, ((0, 0), (0, more), (0, 0))).reshape(-1, self.c_out)
        return Layer(matrix, self.types, self.bias, self.gamma, self.beta)


def padded(channels: int) -> int:
    """Round up to a multiple of 8."""
    return -(-channels // VECTOR) * VECTOR


def pack(matrix: np.ndarray) -> np.ndarray:
    """Return [K,N] as FP16 [chunks * tiles * 32, 8], in the order in which lanes take fragments of B.

    The order is: for each 32 rows, for each 8 columns, for each half of the rows, for each lane, two times
    two numbers of column g, with g = lane / 4 and t = lane % 4 (csrc/mma.h). Zeros fill K up to 32 and N up
    to 8.
    """
    # The axes are chunk, tile, half, g, t, register, number in the register.
    return np.ascontiguousarray(_parts(matrix).transpose(0, 5, 2, 6, 1, 3, 4)).reshape(-1, VECTOR)


def centred(rows: np.ndarray) -> np.ndarray:
    """Subtract from rows [., c_out] the mean of each of the norm's groups of columns.

    A norm subtracts the mean from what a layer gives. That is linear, so it can be done once, to the layer.
    In narrow layers, whose groups are of a few columns, the kernel does it: rounded to FP16, too little might
    be left.
    """
    grouped = rows.reshape(len(rows), GROUPS, -1).astype(np.float64)
    return (grouped - grouped.mean(-1, keepdims=True)).reshape(rows.shape).astype(rows.dtype)


def pack_tiled(matrix: np.ndarray, types: int, bias: np.ndarray | None = None) -> np.ndarray:
    """Return matrix [types * c_in, N] and bias [types, N] as FP16 [., 8], in the order of B in csrc/wgmma.h.

    The order is: for each slice of columns, for each 64 columns of x, for each type, four times 16 rows,
    which lie in blocks of 8 x 8 numbers, two along K for each 8 columns, column after column. At the end of a
    slice come, in the same order, the 16 rows that a row's degrees are multiplied with. Two of them are for
    each type: its bias rounded to FP16, and the remainder.
    """
    n = matrix.shape[1]
    windows = _half(matrix, "matrix").reshape(types, -1, WINDOW, n).transpose(1, 0, 2, 3).reshape(-1, n)
    rows = np.zeros((_SLAB, n), np.float16)
    if bias is not None:
        rows[: 2 * types : 2] = _half(bias, "bias")
        rows[1 : 2 * types : 2] = bias - rows[: 2 * types : 2].astype(bias.dtype)
    # The axes are slab, block, row of the block; slice, tile, column of the tile.
    both = np.concatenate([windows, rows])[:, _columns(n)]
    parts = both.reshape(-1, 2, 8, n // SLICES[n], SLICES[n] // 8, 8)
    return np.ascontiguousarray(parts.transpose(3, 0, 4, 1, 5, 2)).reshape(-1, VECTOR)


def _half(values: np.ndarray, name: str) -> np.ndarray:
    """Round to FP16. Raises InputError for values that FP16 cannot hold."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise InputError(f"layer: {name}", got="values that FP16 cannot hold", expected="finite, below 65504")
    return rounded


def _parts(matrix: np.ndarray) -> np.ndarray:
    """Return [K,N] in FP16 as [chunk, t, half, register, number, tile, g], filled up with zeros.

    A lane has the eight columns of A from 8t on side by side, for both halves of a chunk, so B's rows are
    taken in that order too. `_columns` says which column is g.
    """
    k, n = matrix.shape
    full = np.zeros((-(-k // CHUNK) * CHUNK, padded(n)), np.float16)
    full[:k, :n] = _half(matrix, "matrix")
    return full[:, _columns(padded(n))].reshape(-1, 4, 2, 2, 2, padded(n) // 8, 8)


def _columns(n: int) -> np.ndarray:
    """Return [n] the column of the matrix that each column of the multiplication is.

    In wide layers the pairs of columns that a lane has in four tiles are eight adjacent ones, so that it
    writes 16 bytes at once.
    """
    columns = np.arange(n)
    if n < WIDE:
        return columns
    t_first = columns.reshape(-1, 4, 4, 2)  # the axes behind the first are t, tile, number
    return t_first.transpose(0, 2, 1, 3).reshape(-1)


def _shape(name: str, array: AnyArray, ndim: int) -> tuple[int, ...]:
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64) or array.ndim != ndim:
        got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"layer: {name}", got=got, expected=f"a NumPy array, float32, {ndim}-D")
    return tuple(array.shape)
