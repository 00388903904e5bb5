"""What the expression network's scores are worth, measured on rendered faces of known expression."""

from __future__ import annotations

from collections.abc import Mapping

# Shape, "*" for both sides -> how many times its score a weight is, and the standard deviation of the rest.
# In one of two sets of renders at least, all other scores correlated with the truth by less than 0.25.
TRUSTED = {
    "eyeBlink*": (0.6, 0.12),
    "jawOpen": (1.0, 0.13),
    "mouthSmile*": (1.0, 0.20),
    "mouthUpperUp*": (0.6, 0.13),
}


def trusted(name: str, scores: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the weight that a score stands for and its standard deviation; None where it says little."""
    found = TRUSTED.get(name.replace("Left", "*").replace("Right", "*"))
    if found is None or name not in scores:
        return None
    times, spread = found
    return min(max(times * float(scores[name]), 0.0), 1.0), spread
