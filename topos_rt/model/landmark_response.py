"""The `LandmarkResponse` of a model: how its latents move landmarks, and how exactly these are seen.

`python -m export response` makes it from the model alone, `python -m training.response` from pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.landmark_map import COUNT
from topos_rt.model.landmark_errors import LandmarkErrors
from topos_rt.support.checks import frozen, require, require_finite, require_shape
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors, write_tensors

_OWN, _ERRORS = ("directions", "spreads", "moves"), ("yaws", "modes", "noise")


@dataclass(frozen=True, eq=False)
class LandmarkResponse:
    """Directions of the latent, and what they do. Raises MeshInputError for parts that do not fit."""

    directions: np.ndarray  # [k,N*D] float32
    spreads: np.ndarray  # [k] float32, > 0: how far a model's estimate of a seen face is off along each
    moves: np.ndarray  # [k,468,3] float32 metres: how landmarks move for 1 of each, place and size taken out
    errors: LandmarkErrors

    def __post_init__(self) -> None:
        for name in _OWN:
            object.__setattr__(self, name, frozen(getattr(self, name), np.float32, f"response {name}"))
            require_finite(getattr(self, name), f"response {name}")
        rows = self.directions
        sound = rows.ndim == 2 and 1 <= len(rows) <= rows.shape[1]
        require(sound, "response directions", f"shape {list(rows.shape)}", "[k,N*D], 1 <= k <= N*D")
        require_shape(self.spreads, (len(rows),), "response spreads")
        require_shape(self.moves, (len(rows), COUNT, 3), "response moves")
        require((self.spreads > 0).all(), "response spreads", f"{self.spreads.min():g}", "numbers > 0")

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        tensors = {name: getattr(self, name) for name in _OWN}
        write_tensors(path, tensors | {name: getattr(self.errors, name) for name in _ERRORS}, {})

    @classmethod
    def load(cls, path: str | PathLike[str], size: int) -> LandmarkResponse:
        """Read what `save` wrote, for latents of `size` = N*D numbers. Raises BundleError for all else."""
        tensors, _ = read_tensors(path)
        what = f"landmark response {Path(path).name}"
        if set(tensors) != {*_OWN, *_ERRORS}:
            expected = f"the arrays {', '.join((*_OWN, *_ERRORS))}"
            raise BundleError(what, got=", ".join(sorted(tensors))[:200], expected=expected, fix=AGAIN)
        try:
            errors = LandmarkErrors(*(tensors[name] for name in _ERRORS))
            found = cls(tensors["directions"], tensors["spreads"], tensors["moves"], errors)
        except MeshInputError as error:
            expected = "a file written by LandmarkResponse.save"
            raise BundleError(what, got=f"no valid {error}", expected=expected, fix=AGAIN) from error
        if found.directions.shape[1] != size:
            got = f"directions of {found.directions.shape[1]} numbers"
            raise BundleError(what, got=got, expected=f"{size}, as a latent has", fix=AGAIN)
        return found
