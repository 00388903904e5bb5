from __future__ import annotations

import numpy as np

from tests.meshes import ball
from topos_rt.scan.visible import outer_triangles


def test_what_lies_inside_does_not_show_and_all_the_rest_does() -> None:
    head = ball(radius=0.1)
    triangles = np.concatenate([head.triangles, head.triangles + len(head.positions)])
    shown = outer_triangles(np.concatenate([head.positions, 0.5 * head.positions]), triangles)
    outer, inner = np.split(shown, 2)
    assert outer.mean() > 0.9 and not inner.any()
    assert outer[head.positions[head.triangles][:, :, 1].min(1) > -0.05].all()


def test_the_inside_does_not_show_through_an_open_neck() -> None:
    head = ball(radius=0.1)
    open_ = head.triangles[head.positions[head.triangles][:, :, 1].min(1) > -0.085]
    triangles = np.concatenate([open_, head.triangles + len(head.positions)])
    shown = outer_triangles(np.concatenate([head.positions, 0.3 * head.positions]), triangles)
    assert not shown[len(open_) :].any()
    assert shown[: len(open_)].mean() > 0.95
