"""The digests of bundles that hold the same weights: results of any of them are results of all."""

from __future__ import annotations

from pathlib import Path

from topos_rt.bench.work import model_digest
from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle
from topos_rt.support.files import read_json

SAME_WEIGHTS = Path(__file__).parents[1] / "benchmarks" / "results" / "same_weights_mini.json"


def digests(bundle: Bundle, result: Path = SAME_WEIGHTS) -> frozenset[str]:
    """Return the digest of a bundle, and that of the bundle before if it was the same with other graphs.

    result: what `python -m benchmarks.same_weights` wrote, if it is there; it counts for its own bundle
    alone. Raises InputError for another file.
    """
    own = model_digest(bundle)
    if not result.exists():
        return frozenset({own})
    found = read_json(result, "the comparison of two exports")
    try:
        now, earlier = found["model"]["sha256"], found["earlier"]["sha256"]
    except (KeyError, TypeError):
        raise InputError(
            str(result), got="no two digests", expected="what benchmarks.same_weights writes"
        ) from None
    return frozenset({own, earlier} if now == own else {own})
