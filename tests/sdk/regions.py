"""Named places of a head of `mini`, to tell left from right and up from down in any axes.

They are vertices of the topology, found by names and distances alone, so that no axis is taken for granted:
Left and Right of ARKit's blendshapes and the sides of the face mesh's landmarks are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from topos_rt.head.atlas import MASK_SIDE, MASKS
from topos_rt.model.bundle import Bundle

# Landmarks of MediaPipe's face mesh, and sides of it beside the ears.
CHIN, BESIDE_RIGHT_EAR, BESIDE_LEFT_EAR = 152, 234, 454


@cache
def regions() -> dict[str, np.ndarray]:
    """Return the vertices of the eyes, the ears and the chin, each by its side's name."""
    bundle = Bundle.open("mini")
    rig, atlas, landmarks = bundle.rig, bundle.atlas, bundle.landmarks
    assert rig is not None and atlas is not None and landmarks is not None

    def lids(side: str) -> np.ndarray:
        shape = rig.shape_names.index(f"eyeBlink{side}")
        return rig.shape_index[slice(*rig.shape_offsets[shape : shape + 2])]

    column, row = (np.array([0, 1]) + np.array([1, -1]) * atlas.uvs).T  # v = 1 is the first row
    pixel = [np.minimum((at * MASK_SIDE).astype(int), MASK_SIDE - 1) for at in (row, column)]
    skin = np.isin(atlas.parts, [0])
    on_ears = (atlas.masks[MASKS.index("ears")][tuple(pixel)] > 127) & skin
    topology = bundle.topology
    ears = np.unique(topology.polygon_vertices[on_ears[topology.polygon_uvs]])
    return {
        "left eye": lids("Left"), "right eye": lids("Right"), "ears": ears,
        "chin": landmarks.vertices[CHIN], "beside left ear": landmarks.vertices[BESIDE_LEFT_EAR],
        "beside right ear": landmarks.vertices[BESIDE_RIGHT_EAR],
    }  # fmt: skip


def places(positions: np.ndarray) -> dict[str, np.ndarray]:
    """Return the middle of each place on a head, in its own axes, each ear by the side it is nearer to."""
    found = regions()
    made = {name: positions[ids].mean(0) for name, ids in found.items() if name != "ears"}
    ears = positions[found["ears"]]
    left, right = (np.linalg.norm(ears - made[f"beside {side} ear"], axis=1) for side in ("left", "right"))
    made["left ear"], made["right ear"] = ears[left < right].mean(0), ears[right < left].mean(0)
    return made


@dataclass(frozen=True)
class Engine:
    """How an engine sees: its directions for a head that looks ahead, and which faces it draws."""

    ahead: tuple[int, int, int]
    left: tuple[int, int, int]  # the head's own
    up: tuple[int, int, int]
    left_handed: bool
    clockwise: bool  # front faces, as they are seen from outside
    unit: float = 1.0  # of a metre


UNITY = Engine((0, 0, 1), (-1, 0, 0), (0, 1, 0), left_handed=True, clockwise=True)
UNREAL = Engine((1, 0, 0), (0, -1, 0), (0, 0, 1), left_handed=True, clockwise=False, unit=100.0)
GODOT = Engine((0, 0, 1), (1, 0, 0), (0, 1, 0), left_handed=False, clockwise=True)


def check(engine: Engine, positions: np.ndarray, normals: np.ndarray, triangles: np.ndarray) -> None:
    """Assert that a head in an engine's axes is upright, not mirrored, of its size and right side out."""
    at = {name: place / engine.unit for name, place in places(positions.astype(np.float64)).items()}
    eyes, ears = at["left eye"] + at["right eye"], at["left ear"] + at["right ear"]
    ahead, left, up = (np.array(way) for way in (engine.ahead, engine.left, engine.up))
    for side, sign in (("left", 1), ("right", -1)):
        assert 0.015 < sign * at[f"{side} eye"] @ left < 0.04, side
        assert 0.06 < sign * at[f"{side} ear"] @ left < 0.11, side
    assert abs(at["chin"] @ left) < 0.01
    assert 0.07 < (eyes / 2 - at["chin"]) @ up < 0.14
    assert 0.06 < (at["chin"] - ears / 2) @ ahead < 0.16
    # Ahead, left and up are in this order a right hand's thumb, first and second finger.
    ways = [at["chin"] - ears / 2, at["left eye"] - at["right eye"], eyes / 2 - at["chin"]]
    assert np.linalg.det(ways) * (-1 if engine.left_handed else 1) > 0
    a, b, c = np.moveaxis(positions[triangles].astype(np.float64), 1, 0)
    # By its formula a cross product is a left hand's in left-handed axes.
    outwards = 1 if engine.clockwise == engine.left_handed else -1
    turned = (np.cross(b - a, c - a) * normals[triangles[:, 0]]).sum(1) * outwards
    assert (turned > 0).mean() > 0.97


def check_shapes(
    engine: Engine, positions: np.ndarray, shapes: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Assert that blendshapes move what their names say, and to where."""
    at = places(positions)
    left, up = np.array(engine.left), np.array(engine.up)
    for side, sign in (("Left", 1), ("Right", -1)):
        offsets = shapes[f"eyeBlink{side}"][0]
        moved = np.abs(offsets).max(1) > 0.001 * engine.unit
        assert moved.sum() > 20
        eye = at[f"{side.lower()} eye"] @ left
        assert abs((positions[moved] @ left).mean() - eye) < 0.01 * engine.unit
        assert (sign * (positions[moved] @ left) > 0).mean() > 0.8, side
    opened = positions + shapes["jawOpen"][0]
    assert (at["chin"] - places(opened)["chin"]) @ up > 0.01 * engine.unit
    turned = np.linalg.norm(shapes["jawOpen"][1], axis=1)
    assert turned.max() > 0.1 and (turned < 1e-6).mean() > 0.2  # normals turn, but not behind the head
    moved_left = shapes["jawLeft"][0] @ left
    assert moved_left.max() > 0.003 * engine.unit and moved_left.max() > 5 * -moved_left.min()
