"""Fill the tables of docs/outputs.md from the code and the results: `python docs/make_output_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

from topos_rt.head.skeleton import HUMANOID, humanoid_joints
from topos_rt.head.visemes import GROUPS, VISEMES
from topos_rt.model.bundle import Bundle

PAGE = ROOT / "docs" / "outputs.md"
RESULT = "outputs_mini"


def _sizes() -> str:
    rows = [
        [f"`{name}`", " + ".join(f"{count:,} ({suffix})" for suffix, count in files.items())]
        for name, files in read(RESULT)["bytes"].items()
    ]
    return table(["form", "bytes"], rows)


def _humanoid() -> str:
    rig = Bundle.open("mini", verify=False).rig
    own = humanoid_joints(rig.joint_names) if rig is not None else {}
    rows = [
        [f"`{key}`", f"`{own[key]}`", f"`{joint.unity}`", f"`{joint.arkit}`"]
        for key, joint in HUMANOID.items()
    ]
    head = ["glTF humanoid, VRM", "joint of `mini`", "Unity `HumanBodyBones`", "ARKit `ARSkeleton`"]
    return table(head, rows)


def _compact() -> str:
    result = read(RESULT)
    return f"{result['compact_joints']} of {result['joints']} joints."


def _groups() -> str:
    return table(["group", "blendshapes"], [[f"`{name}`", told] for name, told in GROUPS.items()])


def _visemes() -> str:
    rows = [
        [f"`{name}`", ", ".join(f"{part} {weight:g}" for part, weight in parts.items()) or "none"]
        for name, parts in VISEMES.items()
    ]
    return table(["viseme", "weights"], rows)


def _quantized() -> str:
    found = read(RESULT)["quantized"]
    return (
        f"{found['positions_mm']:.4f} mm for positions and {found['blendshapes_mm']:.4f} mm for blendshapes."
    )


def _shared() -> str:
    result = read(RESULT)
    files, errors = result["bytes"]["head"], result["head"]
    count, mean, most = result["vertices"], errors["normals_mean_degrees"], errors["normals_max_degrees"]
    return (
        f"{files['.head']:,} bytes instead of {result['bytes']['glb']['.glb']:,}: {12 * count:,} of"
        f" positions, {2 * count:,} of normals, and the metadata. The base takes {files['.base']:,}"
        f" bytes. Positions are exact; normals are off by {mean:.1f}° on average and {most:.1f}° at most."
    )


TABLES: Tables = {
    "sizes": _sizes,
    "humanoid": _humanoid,
    "compact": _compact,
    "groups": _groups,
    "visemes": _visemes,
    "quantized": _quantized,
    "shared": _shared,
}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
