"""The files that a training run of `mini` leaves for export, beside the weights in `vae.pt` and `flow.pt`.

They are the one interface between `training/` and `export/`, as a bundle is between `export/` and the
runtime: `python -m training.finish` writes them, and `python -m export mini` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from models import mini as sizes
from topos_rt.errors import InputError, MeshInputError
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.support.tensorfile import read_tensors, write_tensors

TOPOLOGY, HIERARCHY, RIG = "topology.safetensors", "hierarchy.safetensors", "rig.safetensors"
HEADS = "heads.safetensors"
_NUMBERS = ("radius_m", "sigma_min", "residual_scale")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Everything in a bundle of `mini` that training decides, except the weights of the networks.

    V vertices, N latent tokens of D channels. Raises MeshInputError where the parts do not fit together, or
    do not have the sizes of `mini`.
    """

    topology: Topology
    hierarchy: Hierarchy
    rig: Rig
    shown: np.ndarray  # [n,V,3] float32, metres: heads whose shape the levels of detail keep
    variation: np.ndarray  # [k,N*D] float32, orthonormal: directions that a picture leaves open
    radius_m: float  # mean radius of the training heads, metres: one unit of the networks' frame
    sigma_min: float  # of the flow
    residual_scale: float  # of what the flow adds to the linear estimate

    def __post_init__(self) -> None:
        vertices, stages = self.topology.num_vertices, len(sizes.VAE["decoder_blocks"])
        levels = [len(level.features) for level in self.hierarchy.levels]
        channels = sizes.NUM_LATENTS * sizes.VAE["code_channels"]
        facts = {
            "vertices of the hierarchy": (levels[:1], [vertices]),
            f"nodes of hierarchy level {stages}": (levels[stages : stages + 1], [sizes.NUM_LATENTS]),
            "vertices of the rig": (self.rig.num_vertices, vertices),
            "shape of the shown heads": (self.shown.shape, (len(self.shown), vertices, 3)),
            "shape of the variation": (self.variation.shape, (len(self.variation), channels)),
            "types of the arrays": ({a.dtype.name for a in (self.shown, self.variation)}, {"float32"}),
        }
        for what, (got, expected) in facts.items():
            if got != expected:
                raise MeshInputError(what, got=got, expected=expected)
        for name, array in (("shown heads", self.shown), ("variation", self.variation)):
            if not len(array) or not np.isfinite(array).all():
                raise MeshInputError(name, got="none, or values not finite", expected="finite numbers")
        positive = 0 < self.radius_m < math.inf and 0 < self.residual_scale < math.inf
        if not (positive and 0 <= self.sigma_min < 1):
            got = ", ".join(f"{name}={getattr(self, name)}" for name in _NUMBERS)
            raise MeshInputError("numbers of the run", got=got, expected="all > 0, sigma_min in 0..1")

    def save(self, directory: Path) -> None:
        """Write the files into an existing directory, each atomically."""
        self.topology.save(directory / TOPOLOGY)
        self.hierarchy.save(directory / HIERARCHY)
        self.rig.save(directory / RIG)
        numbers = {name: np.array(getattr(self, name), np.float64) for name in _NUMBERS}
        arrays = {"shown": self.shown, "variation": self.variation}
        write_tensors(directory / HEADS, {**arrays, **numbers}, {})

    @classmethod
    def open(cls, directory: Path) -> FinishedRun:
        """Read and check what `save` wrote.

        Raises InputError for a missing, damaged or foreign file, and for files of different runs.
        """
        fix = f"run python -m training.finish --out {directory}"
        if not directory.is_dir():
            raise InputError(
                str(directory), got="no such directory", expected="a training run", fix="check the path"
            )
        missing = [name for name in (TOPOLOGY, HIERARCHY, RIG, HEADS) if not (directory / name).is_file()]
        if missing:
            raise InputError(
                str(directory), got=f"no {', '.join(missing)}", expected="a finished training run", fix=fix
            )
        heads = _read(directory / HEADS, _read_heads, fix)
        parts = (
            _read(directory / TOPOLOGY, Topology.load, fix),
            _read(directory / HIERARCHY, Hierarchy.load, fix),
            _read(directory / RIG, Rig.load, fix),
        )
        try:
            numbers = (float(heads[name]) for name in _NUMBERS)
            return cls(*parts, heads["shown"], heads["variation"], *numbers)
        except MeshInputError as error:
            raise InputError(
                f"{directory}: {error.what}", got=error.got, expected=error.expected, fix=fix
            ) from error


def _read_heads(path: Path) -> dict[str, np.ndarray]:
    tensors, _ = read_tensors(path)
    shapes = {name: tensors[name].ndim for name in sorted(tensors)}
    expected = {**dict.fromkeys(_NUMBERS, 0), "shown": 3, "variation": 2}
    if shapes != expected:
        raise MeshInputError("arrays", got=f"arrays of dimensions {shapes}", expected=expected)
    return tensors


def _read(path: Path, load: Callable[[Path], T], fix: str) -> T:
    try:
        return load(path)
    except InputError as error:
        raise InputError(
            str(path), got=error.got, expected="the file that training.finish writes", fix=fix
        ) from error
