"""How far heads of one picture and several seeds differ, where the picture shows them and where it does not.

Seeds should vary what a picture leaves open, and nothing that it shows. All heads of a picture are laid over
each other by the vertices of the face that it shows; the spread of a vertex is then the root mean square of
its distances to its mean. The training heads, laid over each other likewise, say how much a head that is not
known at all may vary: the most that is plausible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.model.bundle import Bundle
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head, outer_part
from topos_rt.support.similarity import fit_similarity
from training.heads import normalise
from training.sitters import Sitter

_SIDES = (234, 454)  # landmarks before the ears
_EAR_M = 0.045  # the largest distance of an ear's vertices from there
_BACK_M = 0.03  # behind these landmarks the back of the head begins
_FEW = 30  # vertices of a group, below which it is left out
_KEPT = 0.99  # of the variance of the training heads, in the components that span them
_BOUND = 3.0  # standard deviations


@dataclass(frozen=True, eq=False)
class Groups:
    """Parts of a topology's heads, masks [V]."""

    face: np.ndarray
    open: Mapping[str, np.ndarray]  # what pictures of faces leave open, in part

    @classmethod
    def of(cls, bundle: Bundle) -> Groups:
        """Find the parts by the landmark map. Raises BundleError as `face_region` does."""
        region = face_region(bundle)
        assert bundle.landmarks is not None
        positions = mean_head(bundle).points * bundle.manifest.frame.radius_m
        sides = bundle.landmarks.points(positions)[list(_SIDES)]
        outer = _mask(np.unique(outer_part(bundle)), len(positions))
        away = np.linalg.norm(positions[:, None] - sides, axis=2).min(1)
        beyond = np.abs(positions[:, 0] - sides[:, 0].mean()) > np.ptp(sides[:, 0]) / 2
        level = positions[:, 1] > sides[:, 1].mean() - _EAR_M  # the neck is not a part of the back
        back = positions[:, 2] < sides[:, 2].mean() - _BACK_M
        ears = outer & beyond & (away < _EAR_M)
        return cls(
            _mask(region.vertices, len(positions)), {"ears": ears, "back": outer & back & level & ~ears}
        )

    def of_picture(self, seen: np.ndarray) -> dict[str, np.ndarray]:
        """Return what a picture shows of the face, and the parts that it does not show."""
        hidden = {name: part & ~seen for name, part in self.open.items()}
        return {"shown": self.face & seen, "hidden_side": self.face & ~seen, **hidden}


class TrainingHeads:
    """What is known of the heads that a model was trained on."""

    def __init__(self, heads: np.ndarray) -> None:
        """Take heads [n,V,3] in metres."""
        self.heads = heads
        units, radii = normalise(heads)
        self._radius = float(radii.mean())
        self._mean = units.mean(0).astype(np.float64)
        flat = (units - self._mean).reshape(len(units), -1).astype(np.float32)
        variance, own = np.linalg.eigh((flat @ flat.T).astype(np.float64))
        variance, own = variance[::-1], own[:, ::-1]
        count = 1 + int(np.searchsorted(np.cumsum(variance) / variance.sum(), _KEPT))
        self._basis = (flat.T @ own[:, :count]) / np.sqrt(variance[:count])  # [V*3,count]
        self._spread = np.sqrt(variance[:count] / len(units))

    def away_mm(self, head: np.ndarray) -> float:
        """Return the mean distance in mm of a head's vertices to the nearest that its training allows.

        That is its projection on the principal components of the training heads, no farther than three
        standard deviations along each.
        """
        offset = (normalise(head[None])[0][0] - self._mean).ravel()
        weights = np.clip(offset @ self._basis, -_BOUND * self._spread, _BOUND * self._spread)
        left = (offset - self._basis @ weights).reshape(-1, 3)
        return float(np.linalg.norm(left, axis=1).mean() * self._radius * 1000)


def spread_mm(heads: Sequence[np.ndarray] | np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the spread [V] in mm of heads [V,3] that are laid over the first by the vertices in a mask."""
    target = np.asarray(heads[0], np.float64)
    laid = np.stack([fit_similarity(head[shown], target[shown]).points(head) for head in heads])
    return np.asarray(1000 * np.sqrt(((laid - laid.mean(0)) ** 2).sum(2).mean(0)))


def measure(
    sitters: Iterable[tuple[Sitter, list[np.ndarray]]], groups: Groups, known: TrainingHeads
) -> dict[str, Any]:
    """Return the spread of the heads of each sitter by group, beside that of the training heads."""
    seeds: dict[str, list[float]] = {}
    population: dict[str, list[float]] = {}
    made, true, count = [], [], 0
    for sitter, heads in sitters:
        count = len(heads)
        parts = groups.of_picture(sitter.seen)
        if parts["shown"].sum() < _FEW:
            continue
        own, all_heads = spread_mm(heads, parts["shown"]), spread_mm(known.heads[:100], parts["shown"])
        for name, part in parts.items():
            if part.sum() >= _FEW:
                seeds.setdefault(name, []).append(float(own[part].mean()))
                population.setdefault(name, []).append(float(all_heads[part].mean()))
        made += [known.away_mm(head) for head in heads]
        true.append(known.away_mm(sitter.truth))
    return {
        "seeds": count,
        "pictures": len(true),
        "spread_mm": {name: round(float(np.mean(values)), 3) for name, values in seeds.items()},
        "training_heads_spread_mm": {
            name: round(float(np.mean(values)), 3) for name, values in population.items()
        },
        "away_from_training_heads_mm": {
            "seeds": round(float(np.mean(made)), 3),
            "true_heads": round(float(np.mean(true)), 3),
        },
    }


def _mask(ids: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[ids] = True
    return mask
