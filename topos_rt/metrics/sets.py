"""Distances between sets of features, in NumPy: FID and KID, and CSIM of paired ones.

A feature is a row of numbers that a network makes of a picture. All sums are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import InputError, OptionError, shortened

MOST_FEATURES, MOST_VALUES = 8192, 1 << 27  # columns, and numbers of a set: 1 GB in float64
SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as in its paper
_MOST_SUBSETS, _LARGEST_SUBSET = 10_000, 5_000
_DEGREE, _OFFSET = 3, 1.0  # of KID's kernel


@dataclass(frozen=True)
class Csim:
    """Cosines between features of pairs of pictures, 1 where both are alike."""

    mean: float
    each: tuple[float, ...]  # of the pairs in their order
    mismatched: float | None  # the mean over all pairs that do not belong together; None for one pair


@dataclass(frozen=True)
class Kid:
    """The kernel distance over random subsets."""

    mean: float
    deviation: float  # over the subsets; 0 for one


def csim(features: np.ndarray, others: np.ndarray) -> Csim:
    """Return the cosines between features [N,C] and those of their partners [N,C].

    What a cosine is worth depends on the network; the mean of mismatched pairs says what strangers get.
    Source: Deng et al. 2019, ArcFace, compares faces by it; as "CSIM": Zakharov et al. 2019, Few-Shot
    Adversarial Learning of Realistic Neural Talking Head Models.

    Raises InputError for features of other shapes, and for rows that are not finite or zero.
    """
    a, b = checked(features, "features", 1), checked(others, "the others' features", 1)
    if a.shape != b.shape:
        raise _unlike(a, b, "as many rows and columns in both")
    a, b = (_unit(values) for values in (a, b))
    own = np.clip((a * b).sum(1), -1, 1)
    all_pairs = float(a.sum(0) @ b.sum(0))  # the sum of all N * N cosines
    rest = None if len(a) == 1 else (all_pairs - float(own.sum())) / (len(a) * (len(a) - 1))
    return Csim(float(own.mean()), tuple(map(float, own)), rest)


def fid(features: np.ndarray, others: np.ndarray) -> float:
    """Return the Fréchet distance between the Gaussians that fit two sets of features, [N,C] and [M,C].

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), with covariances over N - 1. With S = Rᵀ R of centred features,
    the trace of (S1 S2)^½ is the sum of the singular values of R1 R2ᵀ, for which no root of a matrix is
    needed. Sets of few pictures give distances that are too large, by how much depends on their number.
    Source: Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule.

    Raises InputError for fewer than two rows, other shapes, and values that are not finite.
    """
    a, b = _two(features, others)
    roots, traces = list[np.ndarray](), 0.0
    for values in (a, b):
        centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
        traces += float((centred * centred).sum())
        tall = len(centred) > centred.shape[1]
        roots.append(np.asarray(np.linalg.qr(centred, mode="r")) if tall else centred)
    away = a.mean(0) - b.mean(0)
    common = float(np.linalg.svd(np.asarray(roots[0] @ roots[1].T, np.float64), compute_uv=False).sum())
    return max(0.0, float(away @ away) + traces - 2 * common)


def kid(
    features: np.ndarray,
    others: np.ndarray,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> Kid:
    """Return the squared maximum mean discrepancy between two sets of features, [N,C] and [M,C].

    The kernel is (x·y / C + 1)³, the estimate is unbiased, so that it may be below zero, and it is averaged
    over random subsets (Philox, seeded). Source: Bińkowski et al. 2018, Demystifying MMD GANs.

    Raises InputError for fewer rows than subset_size, other shapes, and values that are not finite, and
    OptionError for subsets outside 1..10,000 or a subset_size outside 2..5,000.
    """
    _check_range("subsets", subsets, 1, _MOST_SUBSETS)
    _check_range("subset size", subset_size, 2, _LARGEST_SUBSET)
    a, b = _two(features, others)
    fewest = min(len(a), len(b))
    if fewest < subset_size:
        raise InputError(
            "KID",
            got=f"{fewest} pictures in a set",
            expected=f"{subset_size} or more, the size of a subset",
            fix="add pictures, or make the subsets smaller",
        )
    draw = np.random.Generator(np.random.Philox(seed))
    found = [
        _discrepancy(*(values[draw.permutation(len(values))[:subset_size]] for values in (a, b)))
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(found)), float(np.std(found)))


def checked(values: np.ndarray, what: str, fewest: int = 2) -> np.ndarray:
    """Return features as float64 [N,C]. Raises InputError for other shapes, too few rows, NaN, infinity."""
    array = np.asarray(values)
    expected = f"[N,C] with N from {fewest} and C to {MOST_FEATURES:,}"
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise InputError(what, got=f"{array.dtype} {list(array.shape)}", expected=f"numbers {expected}")
    rows, columns = array.shape
    if rows < fewest:
        raise InputError(what, got=f"{rows} pictures", expected=f"{fewest} or more", fix="add pictures")
    if not 1 <= columns <= MOST_FEATURES or array.size > MOST_VALUES:
        fix = "take a network with fewer features, or fewer pictures"
        raise InputError(what, got=f"shape {list(array.shape)}", expected=expected, fix=fix)
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        raise InputError(
            what,
            got=f"NaN or infinity in row {int(bad.argmax())}",
            expected="finite numbers",
            fix="look at that picture, and at the network's input",
        )
    return array.astype(np.float64)


def _discrepancy(a: np.ndarray, b: np.ndarray) -> float:
    count = len(a)
    own = [_kernel(values, values) for values in (a, b)]
    within = sum(float(values.sum() - np.trace(values)) for values in own) / (count * (count - 1))
    return within - 2 * float(_kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found: np.ndarray = (a @ b.T / a.shape[1] + _OFFSET) ** _DEGREE
    return found


def _unit(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not length.all():
        raise InputError(
            "features", got=f"only zeros in row {int((length == 0).argmax())}", expected="a direction"
        )
    unit: np.ndarray = values / length
    return unit


def _two(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = checked(features, "features"), checked(others, "the others' features")
    if a.shape[1] != b.shape[1]:
        raise _unlike(a, b, "as many columns in both")
    return a, b


def _unlike(a: np.ndarray, b: np.ndarray, expected: str) -> InputError:
    return InputError("features", got=f"shapes {list(a.shape)} and {list(b.shape)}", expected=expected)


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise OptionError(what, got=shortened(repr(value), 40), expected=f"{low:,} to {high:,}")
