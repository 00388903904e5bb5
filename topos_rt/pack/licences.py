"""The texts of the licences that a pack's contents are under, for products that have to show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "licences"
# SPDX's name of a licence, and the file of its text -> how lines about origins call it.
_KNOWN: Mapping[str, str] = {
    "Apache-2.0": r"Apache-2\.0|Apache License",
    "CC0-1.0": r"\bCC0\b",
    "MIT": r"\bMIT\b",
}
_ALWAYS = "MIT"  # of the C library itself


def licences(lines: Iterable[str]) -> dict[str, str]:
    """Return the text of each licence that these lines name, by its SPDX name, in the order of the names."""
    whole = "\n".join(lines)
    named = [name for name, pattern in _KNOWN.items() if name == _ALWAYS or re.search(pattern, whole)]
    return {name: (FOLDER / f"{name}.txt").read_text("utf-8") for name in named}
