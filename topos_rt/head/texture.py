"""The `Texture` of a head: pictures that lie on it by its UVs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError, OptionError

SIZES = (512, 1024, 2048)
MAX_SIDE = 8192
FORMATS = ("jpeg", "png")  # of the colours in files


@dataclass(frozen=True, eq=False)
class Texture:
    """Square pictures on a head's UVs; the first row is v = 1. Their sides may differ.

    Raises MeshInputError for arrays of another type or shape.
    """

    albedo: np.ndarray  # [S,S,3] uint8 sRGB: the colour under white light
    orm: np.ndarray  # [R,R,3] uint8 linear: occlusion, roughness, metalness, as glTF packs them
    normal: np.ndarray  # [N,N,3] uint8: normals in tangent space, +Y up in the picture, as glTF has them
    confidence: np.ndarray  # [C,C] uint8: 255 seen in the photograph, about 128 mirrored, 0 made up
    metadata: Mapping[str, Any] = field(default_factory=dict)  # how it was made, JSON values
    format: str = "jpeg"  # one of FORMATS

    def __post_init__(self) -> None:
        for name, channels in (("albedo", (3,)), ("orm", (3,)), ("normal", (3,)), ("confidence", ())):
            array = np.asarray(getattr(self, name))
            side = len(array) if array.ndim else 0
            if array.dtype != np.uint8 or array.shape != (side, side, *channels) or not 0 < side <= MAX_SIDE:
                raise MeshInputError(
                    f"texture {name}",
                    got=f"{array.dtype} {list(array.shape)}",
                    expected=f"uint8 {['S', 'S', *channels]}, S up to {MAX_SIDE}".replace("'", ""),
                )
            copy = np.array(array, order="C")
            copy.setflags(write=False)
            object.__setattr__(self, name, copy)
        if self.format not in FORMATS:
            raise OptionError("texture format", got=repr(self.format), expected=" or ".join(FORMATS))
        object.__setattr__(self, "metadata", json.loads(json.dumps(dict(self.metadata))))

    def __repr__(self) -> str:
        return f"<Texture: {len(self.albedo)} x {len(self.albedo)}, {self.metadata.get('kind', 'given')}>"
