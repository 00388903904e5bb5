"""How much memory the C library was measured to take for the networks of a pack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.pack.sections import MEMORY

RECORDED = Path(__file__).parent / "memory.json"
_NETWORKS = ("graph", "weights", "face_graph")


def networks_digest(sections: Mapping[tuple[str, int], Any]) -> str:
    """Return the SHA-256 of all networks among the sections of a pack and of their weights."""
    total = hashlib.sha256()
    for name, index in sorted(key for key in sections if key[0] in _NETWORKS):
        total.update(f"{name} {index} {len(sections[name, index])}\n".encode() + sections[name, index])
    return total.hexdigest()


def measured_memory(sections: Mapping[tuple[str, int], Any]) -> np.ndarray | None:
    """Return the section "memory" [1,3] float64 of networks that were measured, or None.

    `benchmarks/bench_sdk.py --record` writes memory.json.
    """
    found = json.loads(RECORDED.read_text()).get(networks_digest(sections))
    return None if found is None else np.array([[found[name] for name in MEMORY]], np.float64)
