"""Fill the table of limits in docs/files.md: `python docs/make_file_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, rewrite, table

from topos_rt.formats.limits import LIMITS

PAGE = ROOT / "docs" / "files.md"
_MEANINGS = {
    "file_bytes": "bytes of a mesh's file, and of what the compressed parts of a GLB unpack to",
    "json_bytes": "bytes of the JSON of a GLB",
    "triangles": "triangles of a mesh, all instances counted; of a PLY with more faces the vertices are used",
    "vertices": "vertices of a mesh, all instances counted",
    "nodes": "nodes of a GLB",
    "primitives": "primitives of a GLB's meshes",
    "points": "points of a cloud",
    "rig_values": "weights of a skin, or offsets of blendshapes, that a GLB has in all",
}


def _limits() -> str:
    rows = [[f"`{name}`", f"{getattr(LIMITS, name):,}", meaning] for name, meaning in _MEANINGS.items()]
    return table(["limit", "at most", "of what"], rows)


TABLES: Tables = {"limits": _limits}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
