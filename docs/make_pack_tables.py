"""Fill the tables of docs/pack.md from `topos_rt.pack.sections`: `python docs/make_pack_tables.py`."""

from __future__ import annotations

import numpy as np
from pages import ROOT, Tables, rewrite, table

from topos_rt.pack.sections import BYTES, KINDS, TEXT, TYPES

PAGE = ROOT / "docs" / "pack.md"


def _types() -> str:
    """Return the element types."""
    sizes = {TEXT: "strings", BYTES: "a file"}
    rows = [
        [str(number), f"`{name}`", sizes.get(name, str(np.dtype(numpy).itemsize))]
        for name, (number, numpy) in TYPES.items()
    ]
    return table(["number", "type", "bytes of one"], rows)


def _kinds() -> str:
    """Return the kinds of sections."""
    rows = [
        [str(kind.number), f"`{name}`", kind.type, str(kind.columns or "any"), kind.meaning]
        for name, kind in KINDS.items()
    ]
    return table(["kind", "name", "type", "columns", "what"], rows)


TABLES: Tables = {"types": _types, "kinds": _kinds}


if __name__ == "__main__":
    rewrite(PAGE, TABLES)
