"""The reader of GLB and glTF files: one surface of everything that their scene shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from topos_rt.formats.damage import damage_refused
from topos_rt.formats.gltf_file import EXPECTED, open_gltf
from topos_rt.formats.gltf_scene import placed
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile, Part, joined


def read_gltf(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface that a GLB, or a `.gltf` with the buffers beside it, shows at rest.

    Positions are in metres with +Y up, as glTF has them.

    Quantized, sparse, skinned and morphed meshes are read as the specification says, and so are strips and
    fans. Draco and meshoptimizer need the extra `gltf`. Points and lines are left out.

    Raises MeshInputError for a file that is damaged, above the limits, without triangles, or in need of
    another extension; MissingExtraError for a compressed one without the extra; OSError.
    """
    with damage_refused(what, EXPECTED):
        found, notes = placed(open_gltf(path, what, limits))
        parts = [Part(part.positions, part.triangles, part.normals, part.uvs) for part in found]
        return joined(parts, what, notes)


def read_metadata(path: Path, limits: Limits = LIMITS) -> dict[str, Any]:
    """Return what a file of topos_rt says of how its head was made; {} for other files and strange values.

    Raises MeshInputError for a file that is damaged or above the limits; OSError.
    """
    what = f"cannot use the mesh {path}"
    with damage_refused(what, EXPECTED):
        extras = open_gltf(path, what, limits).document.get("asset", {}).get("extras")
    found = extras.get("metadata") if isinstance(extras, dict) else None
    if not isinstance(found, dict):
        return {}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    except ValueError:
        return {}
    return plain
