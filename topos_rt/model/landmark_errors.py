"""The errors of the landmark network: their covariance, by how far a face is turned.

Neighbouring landmarks err together, and those on the far side of a turned face err most. So the covariance of
a yaw is a few modes, ways in which all landmarks err together, and noise of each coordinate beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.head.landmark_map import COUNT
from topos_rt.support.arrays import Array
from topos_rt.support.checks import frozen, require, require_finite, require_shape

YAWS = (12.0, 28.0, 90.0)  # degrees: up to which yaw each covariance holds
_MODES = 40
_LEAST_NOISE = 0.003  # outer-eye distances; the network's coordinates are no more exact
# What the modes leave is not independent either: about so many neighbours share one error.
_SHARED = 4.0
_FEWEST = 24  # residuals, of which a covariance can be told


@dataclass(frozen=True, eq=False)
class LandmarkErrors:
    """Covariances modes^T modes + diag(noise^2) of the errors of landmarks.

    The axes are those of `topos_rt.faces.pull.upright`, and the unit is the outer-eye distance.
    Raises MeshInputError for parts that do not fit together.
    """

    yaws: np.ndarray  # [B] float32, degrees, rising: up to which yaw each holds; the last for all above, too
    modes: np.ndarray  # [B,M,468,2] float32
    noise: np.ndarray  # [B,468,2] float32, > 0

    def __post_init__(self) -> None:
        for name in ("yaws", "modes", "noise"):
            object.__setattr__(
                self, name, frozen(getattr(self, name), np.float32, f"{name} of landmark errors")
            )
            require_finite(getattr(self, name), f"{name} of landmark errors")
        require(
            self.yaws.ndim == 1 and len(self.yaws) > 0,
            "yaws of landmark errors",
            f"{self.yaws.shape}",
            "[B], B >= 1",
        )
        require(
            (np.diff(self.yaws) > 0).all(),
            "yaws of landmark errors",
            "numbers that do not rise",
            "rising numbers",
        )
        shape = self.modes.shape
        require(self.modes.ndim == 4, "modes of landmark errors", f"shape {list(shape)}", f"[B,M,{COUNT},2]")
        require_shape(self.modes, (len(self.yaws), shape[1], COUNT, 2), "modes of landmark errors")
        require_shape(self.noise, (len(self.yaws), COUNT, 2), "noise of landmark errors")
        require((self.noise > 0).all(), "noise of landmark errors", f"{self.noise.min():g}", "numbers > 0")

    def weighed(self, yaw: float, columns: Array) -> Array:
        """Return the inverse covariance of a yaw times columns [936,n], by Woodbury's identity."""
        bin_ = min(int(np.searchsorted(self.yaws, abs(yaw))), len(self.yaws) - 1)
        precision = 1 / self.noise[bin_].reshape(-1, 1).astype(np.float64) ** 2
        modes = self.modes[bin_].reshape(-1, 2 * COUNT).astype(np.float64)
        plain = precision * columns
        core = np.eye(len(modes)) + (modes * precision[:, 0]) @ modes.T
        result: Array = plain - precision * (modes.T @ np.linalg.solve(core, modes @ plain))
        return result

    @classmethod
    def measured(cls, residuals: np.ndarray, yaws: np.ndarray) -> LandmarkErrors:
        """Return what residuals of heads whose true shape is known tell.

        residuals: [n,468,2] of the fitted true heads, as for the class. yaws: [n] degrees. A range of
        yaws with few residuals is taken together with the one before.

        Raises MeshInputError for fewer than a few dozen residuals.
        """
        require(
            len(residuals) >= _FEWEST, "residuals of landmarks", f"{len(residuals)}", f"{_FEWEST} or more"
        )
        edges, groups, low = [], [], 0.0
        for high in YAWS:
            inside = (np.abs(yaws) > low) & (np.abs(yaws) <= high) if low else np.abs(yaws) <= high
            if inside.sum() >= _FEWEST:
                edges.append(high)
                groups.append(inside)
            elif groups:
                edges[-1], groups[-1] = high, groups[-1] | inside
            else:
                continue
            low = high
        most = min(_MODES, *(int(group.sum()) // 4 for group in groups))
        parts = [_covariance(residuals[group], most) for group in groups]
        modes, noise = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        return cls(np.array(edges, np.float32), modes, noise)


def _covariance(residuals: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return modes [most,468,2] and noise [468,2] of residuals [n,468,2], which are not centred.

    What the network always does wrong is an error, too: it depends on the pictures that it was measured on.
    """
    rows = residuals.reshape(len(residuals), -1) / np.sqrt(len(residuals))
    _, vectors = np.linalg.eigh(rows @ rows.T)  # in rising order
    modes = vectors[:, ::-1][:, :most].T @ rows  # singular values times directions
    left = np.maximum((rows**2).sum(0) - (modes**2).sum(0), 0) * _SHARED
    noise = np.sqrt(left + _LEAST_NOISE**2)
    return modes.reshape(-1, COUNT, 2).astype(np.float32), noise.reshape(COUNT, 2).astype(np.float32)
