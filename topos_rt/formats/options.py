"""The units and axes of an exported file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import choose

UNITS = {"m": 1.0, "cm": 100.0}
# Rotations of row vectors from +Y up, facing +Z. With +Z up the head faces -Y, as in Blender.
AXES = {"y": np.eye(3, dtype=np.float32), "z": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)}


@dataclass(frozen=True)
class ExportOptions:
    """The options of an exported file.

    units: "m" or "cm". up: "y" or "z". rig: whether to write skeleton, skin and blendshapes where the format
    has them. beside: what the names of files beside this one begin with, such as those of a texture; without
    it, formats that need such files leave the texture out. Raises OptionError for other units or axes.
    """

    units: str = "m"
    up: str = "y"
    rig: bool = True
    beside: str | None = None

    def __post_init__(self) -> None:
        choose(self.units, UNITS, "unit of length")
        choose(self.up, AXES, "up axis")

    def place(self, positions: np.ndarray) -> np.ndarray:
        """Return positions or offsets [n,3] float32 (metres, +Y up) in the units and axes of the file."""
        return self.turn(positions) * np.float32(UNITS[self.units])

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Return directions [n,3] float32 in the axes of the file, exactly: axes are swapped and negated."""
        return vectors @ AXES[self.up] + np.float32(0)  # adding zero turns -0 into 0
