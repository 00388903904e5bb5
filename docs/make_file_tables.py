"""Fill the tables of docs/files.md from the code and the results: `python docs/make_file_tables.py`."""

from __future__ import annotations

from typing import Any

from pages import ROOT, Tables, read, rewrite, table

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
_CASES = {
    "glb_gltf_transform_quantize.glb": "GLB, quantized by glTF-Transform",
    "glb_sparse_positions.glb": "GLB, sparse positions",
    "glb_skinned_node_transform.glb": "GLB, skinned, with a transform at its node",
    "glb_draco.glb": "GLB, Draco",
    "glb_meshopt.glb": "GLB, meshoptimizer",
    "glb_triangle_strip.glb": "GLB, a triangle strip",
    "ply_ascii_latin1_comment.ply": "PLY, a comment in Latin-1",
    "ply_ascii_blank_line.ply": "PLY, a blank line",
    "ply_trailing_newline.ply": "PLY, a trailing byte",
    "ply_binary_mixed.ply": "PLY, triangles and a quad",
    "obj_repeated_corner.obj": "OBJ with a repeated corner",
    "stl_truncated.stl": "STL that is cut",
    "z_up": "head with +Z up, without `--align`",
    "z_up_cloud_aligned": "the same, vertices as a cloud with `--align`",
    "cube": "a cube",
    "p_some_zero_normals.ply": "5 of 4,538 normals zero",
    "ply": "PLY of a head against its OBJ",
    "other_order": "the same in other order",
    "rounded_8": "the same, rounded to 8 digits",
    "rounded_6": "the same, rounded to 6 digits",
    "icc_p3.png": "portrait with a Display P3 profile",
    "icc_gamma1.png": "portrait with a profile of gamma 1",
    "rgba_opaque.png": "portrait as opaque RGBA",
    "fully_transparent.png": "fully transparent picture",
    "eval_in_mm": "`topos-rt eval` of millimetres against metres",
}


def _limits() -> str:
    rows = [[f"`{name}`", f"{getattr(LIMITS, name):,}", meaning] for name, meaning in _MEANINGS.items()]
    return table(["limit", "at most", "of what"], rows)


def _outcome(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"refused: {found['refused']}"
    if "cpu_s" in found:
        told = f"{found['cpu_s']:.1f} s of CPU time"
    else:
        told = f"{found['mm']:,.3f}" if found["mm"] < 1000 else f"{found['mm']:,.0f}"
    return told + (", with a warning" if "warning" in found else "")


def _outcomes() -> str:
    result = read("files_mini")
    rows = [
        [label, _outcome(result["before"][name]), _outcome(result["now"][name])]
        for name, label in _CASES.items()
    ]
    return table(["input", "before", "now"], rows)


TABLES: Tables = {"limits": _limits, "outcomes": _outcomes}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
