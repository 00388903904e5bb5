"""A mirror makes left of right, and a second one brings everything back."""

from __future__ import annotations

import numpy as np
import torch

from models.evidence import SHAPES, Seen
from models.mirror import other_side
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.expression import NAMES
from training.mirror import mirrored_heads


def seen(count: int = 3) -> Seen:
    generator = torch.Generator().manual_seed(0)
    return Seen(*(torch.randn(count, *shape, generator=generator) for shape in SHAPES.values()))


def test_twice_is_as_before() -> None:
    given = seen()
    for got, want in zip(given.mirrored(given.features).mirrored(given.features), given, strict=True):
        assert torch.equal(got, want)


def test_the_canonical_face_is_its_own_mirror_image() -> None:
    """Within 0.2 mm, apart from the irises, which it does not have."""
    places = torch.from_numpy(FaceBundle.open().canonical.positions)
    given = seen(1)._replace(landmarks=torch.cat([places, places[:10]])[None])
    found = given.mirrored(given.features)
    assert float((found.landmarks[0, :468] - places).norm(dim=1).max()) < 0.02  # centimetres


def test_a_wink_and_a_turn_change_sides() -> None:
    scores = torch.zeros(1, 52)
    scores[0, NAMES.index("eyeBlinkLeft")], scores[0, NAMES.index("jawOpen")] = 1, 0.5
    given = seen(1)._replace(expression=scores, pose=torch.tensor([[0.4, -0.1]]))
    got = given.mirrored(given.features)
    assert got.expression[0, NAMES.index("eyeBlinkRight")] == 1
    assert got.expression[0, NAMES.index("jawOpen")] == 0.5 and float(got.expression.sum()) == 1.5
    assert torch.equal(got.pose, torch.tensor([[-0.4, -0.1]]))
    assert {other_side(other_side(name)) for name in NAMES} == set(NAMES)


def test_heads_are_mirrored_vertex_by_vertex() -> None:
    """A dent on one side lies on the other afterwards, at the vertex that is there."""
    right = np.random.default_rng(0).uniform(0.1, 1, (20, 3)).astype(np.float32)
    mean = torch.from_numpy(np.concatenate([right, right * [-1, 1, 1]]).astype(np.float32))
    head = mean.clone()
    head[4] += torch.tensor([0.01, 0.02, 0.03])
    (got,) = mirrored_heads(head[None], mean)
    want = mean.clone()
    want[24] += torch.tensor([-0.01, 0.02, 0.03])
    assert torch.allclose(got, want, atol=1e-6)
    assert torch.allclose(mirrored_heads(got[None], mean)[0], head, atol=1e-6)
