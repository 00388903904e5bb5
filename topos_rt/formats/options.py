"""The options of an exported file: units, axes, and which parts of the rig it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from topos_rt.errors import OptionError, choose
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import SKELETONS, with_skeleton
from topos_rt.head.visemes import checked_morphs, with_morphs

if TYPE_CHECKING:
    from topos_rt.head.mesh import HeadMesh
    from topos_rt.head.parts import Parts

UNITS = {"m": 1.0, "cm": 100.0}
# Rotations of row vectors from +Y up, facing +Z. With +Z up the head faces -Y, as in Blender.
AXES = {"y": np.eye(3, dtype=np.float32), "z": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)}


@dataclass(frozen=True)
class ExportOptions:
    """The options of an exported file.

    units: "m" or "cm". up: "y" or "z". rig: whether to write skeleton, skin and blendshapes where the format
    has them. skeleton: a key of `topos_rt.head.skeleton.SKELETONS`. morphs: names of blendshapes, visemes and
    groups of them, see `topos_rt.head.visemes.with_morphs`. quantize: whether numbers take 16 bits where they
    can; in GLB and glTF alone. parts: whether to write teeth and lashes, and a material for each part of the
    head. beside: what the names of files beside this one begin with, such as those of a
    texture; without it, formats that need such files leave the texture out.

    Raises OptionError for other values.
    """

    units: str = "m"
    up: str = "y"
    rig: bool = True
    skeleton: str = "full"
    morphs: str | Sequence[str] = "all"
    quantize: bool = False
    parts: bool = True
    beside: str | None = None

    def __post_init__(self) -> None:
        choose(self.units, UNITS, "unit of length")
        choose(self.up, AXES, "up axis")
        choose(self.skeleton, SKELETONS, "skeleton")
        object.__setattr__(self, "morphs", checked_morphs(self.morphs))

    def rig_of(self, mesh: HeadMesh) -> Rig | None:
        """Return the rig to write for a head: with the skeleton and the blendshapes that were asked for.

        Raises OptionError for blendshapes that the head does not have.
        """
        if not self.rig or mesh.rig is None:
            return None
        return with_morphs(with_skeleton(mesh.rig, self.skeleton), self.morphs)

    def parts_of(self, mesh: HeadMesh) -> Parts | None:
        """Return the parts to write for a head, with the rig that is written, if one is."""
        if not self.parts or mesh.parts is None:
            return None
        rig = self.rig_of(mesh)
        own = None if rig is None else mesh.parts.rig_for(rig, self.morphs)
        return dataclasses.replace(mesh.parts, rig=own)

    def refuse_rig(self, format: str) -> None:
        """Raise OptionError where a part of the rig was asked for and the format has none."""
        if self.skeleton != "full" or self.morphs != ("all",):
            raise OptionError(
                f"skeleton and blendshapes of a .{format}",
                got=f"skeleton {self.skeleton}, morphs {', '.join(self.morphs)}",
                expected="neither: the format has none of its own",
                fix="write .glb, .gltf or .usd, or leave them out",
            )

    def refuse_placing(self, format: str) -> None:
        """Raise OptionError where units or axes were asked for and the format has its own."""
        if (self.units, self.up) != ("m", "y"):
            raise OptionError(
                f"units and axes of a .{format}",
                got=f"units {self.units}, up {self.up}",
                expected="units m, up y",
                fix="leave --units and --up out, or write .obj, .ply or .usd",
            )

    def refuse_quantized(self, format: str) -> None:
        """Raise OptionError where quantized numbers were asked for and the format has none."""
        if self.quantize:
            raise OptionError(
                f"a quantized .{format}", got="quantize", expected="a .glb or .gltf", fix="leave quantize out"
            )

    def place(self, positions: np.ndarray) -> np.ndarray:
        """Return positions or offsets [n,3] float32 (metres, +Y up) in the units and axes of the file."""
        return self.turn(positions) * np.float32(UNITS[self.units])

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Return directions [n,3] float32 in the axes of the file, exactly: axes are swapped and negated."""
        return vectors @ AXES[self.up] + np.float32(0)  # adding zero turns -0 into 0
