"""What an image encoder may take besides the pixels: the table of its further inputs.

`topos_rt.faces.evidence` computes them from a face, and docs/faces.md explains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from topos_rt.support.arrays import Array
from topos_rt.support.strictjson import refuse

# Name -> shape of the input, which is float32. A bundle names those that it takes in this order.
EVIDENCE: Mapping[str, tuple[int, ...]] = {
    "landmarks": (1, 478, 3),  # in the head's own axes, centred, in centimetres of an average face
    "pose": (1, 2),  # yaw and pitch, radians
    "expression": (1, 52),  # the scores of `topos_rt.faces.expression.NAMES`
    "identity": (1, 128),  # the embedding of the identity network
    "features": (1, 128, 8, 8),  # a feature map of the identity network
    "aligned": (1, 150, 150, 3),  # the face as the identity network takes it: RGB in 0..1
}
# What people can be told apart by. It takes the identity network, which runs for nothing else.
BIOMETRIC = frozenset({"identity", "features"})


def check_evidence(names: Sequence[str]) -> None:
    """Raise BundleError unless these are some names of the table, each once and in its order."""
    if not names or list(names) != [name for name in EVIDENCE if name in names]:
        got = ", ".join(map(repr, names))[:200] or "an empty list"
        refuse("evidence", got, f"null, or some of these once and in this order: {', '.join(EVIDENCE)}")


def no_evidence(names: Sequence[str]) -> dict[str, Array]:
    """Return the evidence of a picture without a face: name -> zeros."""
    return {name: np.zeros(EVIDENCE[name], np.float32) for name in names}
