"""The reader of GLB files: one surface of everything that their scene shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from topos_rt.formats.damage import damage_refused
from topos_rt.formats.gltf_file import EXPECTED, GltfFile
from topos_rt.formats.gltf_scene import placed
from topos_rt.formats.limits import LIMITS, Limits, read_whole
from topos_rt.formats.mesh_file import MeshFile, Part, joined


def read_glb(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface that a GLB shows at rest, in metres with +Y up, as glTF has them.

    Quantized, sparse, skinned and morphed meshes are read as the specification says, and so are strips and
    fans. Draco and meshoptimizer need the extra `gltf`. Points and lines are left out.

    Raises MeshInputError for a file that is damaged, above the limits, without triangles, or in need of
    another extension; MissingExtraError for a compressed one without the extra; OSError.
    """
    data = read_whole(path, what, limits)
    with damage_refused(what, EXPECTED):
        found, notes = placed(GltfFile(data, what, limits))
        parts = [Part(part.positions, part.triangles, part.normals, part.uvs) for part in found]
        return joined(parts, what, notes)


def read_metadata(path: Path, limits: Limits = LIMITS) -> dict[str, Any]:
    """Return what a GLB of topos_rt says of how its head was made; {} for other files and strange values.

    Raises MeshInputError for a file that is damaged or above the limits; OSError.
    """
    what = f"cannot use the mesh {path}"
    data = read_whole(path, what, limits)
    with damage_refused(what, EXPECTED):
        extras = GltfFile(data, what, limits).document.get("asset", {}).get("extras")
    found = extras.get("metadata") if isinstance(extras, dict) else None
    if not isinstance(found, dict):
        return {}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    except ValueError:
        return {}
    return plain
