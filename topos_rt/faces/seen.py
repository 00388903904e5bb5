"""Give a head what was seen of its face: the camera that shows it as the picture does, and the expression."""

from __future__ import annotations

import dataclasses
from typing import Any

from topos_rt.errors import InputError
from topos_rt.faces.fit import HeadFit, fit_head
from topos_rt.faces.portrait import Portrait
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.mesh import HeadMesh

_UNSEEN = 0.005  # a weight that no one sees


def with_face(head: HeadMesh, portrait: Portrait, landmark_map: LandmarkMap | None) -> HeadMesh:
    """Return the head with its portrait's face and, given its topology's map, with pose and expression.

    Where these cannot be fitted, the head is as good as without them, and a warning says so.
    """
    face = portrait.face
    if face is None:
        return head
    if landmark_map is None or not len(face.landmarks):
        return dataclasses.replace(head, face=face)
    try:
        fit = fit_head(
            head.positions,
            head.rig,
            landmark_map,
            face.landmarks,
            portrait.picture.size,
            scores=face.expression,
        )
    except InputError as error:
        warning = f"pose and expression could not be fitted: {error.got}"
        metadata = {**head.metadata, "warnings": [*head.metadata.get("warnings", ()), warning]}
        return dataclasses.replace(head, face=face, metadata=metadata)
    return dataclasses.replace(
        head, face=face, pose=fit.pose, expression=fit.expression, metadata={**head.metadata, **_facts(fit)}
    )


def _facts(fit: HeadFit) -> dict[str, Any]:
    """Return the fit as JSON values, rounded."""
    yaw, pitch, roll = (round(angle, 2) for angle in fit.pose.angles)
    pose = {"yaw": yaw, "pitch": pitch, "roll": roll, "distance_m": round(fit.pose.distance, 4)}
    weights = {name: round(weight, 3) for name, weight in fit.expression.items() if weight >= _UNSEEN}
    return {
        "pose": {**pose, "focal_px": round(fit.pose.focal, 2), "residual_percent": round(fit.residual, 3)},
        "expression": weights,
    }
