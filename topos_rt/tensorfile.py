"""Read and write safetensors files of plain NumPy arrays, with our errors."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.files import write_atomic


def write_tensors(path: str | PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and string metadata atomically."""
    from safetensors.numpy import save

    write_atomic(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, dict(metadata)))


def read_tensors(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays and the metadata. The format's header is checked against the file size before anything is read.

    Raises BundleError for a missing, truncated or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"file {Path(path).name}", got=str(error), expected="a complete safetensors file",
                          fix="export or download the bundle again") from error
