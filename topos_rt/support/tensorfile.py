"""Read and write safetensors files of plain NumPy arrays, with our errors."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.support.files import write_atomic

# What safetensors raises, besides its own error: TypeError and AttributeError for number types that NumPy
# lacks (BF16, F8), the others for shapes that no array can have.
_READER_ERRORS = (TypeError, AttributeError, ValueError, OverflowError, MemoryError)


def write_tensors(
    path: str | PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and string metadata atomically."""
    write_atomic(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the contents of a safetensors file.

    They are the same for the same arrays if there is one entry of metadata: safetensors keeps no order.
    """
    from safetensors.numpy import save

    data: bytes = save(
        {name: np.asarray(array, order="C") for name, array in tensors.items()}, dict(metadata)
    )
    return data


def read_tensors(path: str | PathLike[str], prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays whose names begin with `prefix`, and the metadata.

    The header is checked against the file's size before anything is read.

    Raises BundleError for a file that is missing, truncated or not safetensors, and for number types that
    NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="np") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError, *_READER_ERRORS) as error:
        raise BundleError(
            f"file {Path(path).name}",
            got=str(error),
            expected="a complete safetensors file",
            fix="export or download the bundle again",
        ) from error
