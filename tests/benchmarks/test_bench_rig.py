"""The measures of benchmarks/bench_rig.py on a head whose answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.bench_rig import Judge, summary, without_contacts
from tests.training.synthetic import egg
from topos_rt.head.rig import Rig
from training.rig import make_rig


def rig() -> Rig:
    """Return a rig of the egg, with parts 2 and 3 as eyes and the two contacts of a blink."""
    made = make_rig(egg(), 0.139)
    binding = made.binding
    assert binding is not None
    parts = np.zeros(made.num_vertices, int)
    for part, bone in ((2, 1), (3, 2)):
        parts[egg().skin[:, bone] > 0.5] = part
    names = ("eyeBlinkLeft", "eyeBlinkRight", *made.shape_names[2:])
    looks = (
        "eyeLookDownLeft",
        "eyeLookInLeft",
        "eyeLookOutRight",
        "eyeLookUpRight",
        "mouthSmileLeft",
        "mouthSmileRight",
        "jawOpen",
        "mouthClose",
    )
    shapes = (*names[:2], *looks)
    index = np.tile(np.arange(made.num_vertices), len(shapes))
    binding = dataclasses.replace(
        binding,
        parts=parts,
        contact_pairs=np.array([[700, 900], [800, 1000]]),
        contact_offsets=np.array([0, 1, *[2] * (len(shapes) - 1)]),
    )
    return dataclasses.replace(
        made,
        shape_names=shapes,
        shape_index=index,
        shape_delta=np.full((len(index), 3), 1e-3),
        shape_offsets=np.arange(len(shapes) + 1) * made.num_vertices,
        binding=binding,
    )


def test_the_template_is_off_by_nothing() -> None:
    own = rig()
    assert own.binding is not None
    found = Judge(egg(), own).measure(own.binding.template.astype(np.float64), own)
    assert found["lids"] == pytest.approx([0, 0], abs=1e-9)
    assert found["eyes"].max() < 1e-9 and found["stretch"].max() < 1e-9 and not found["folded"].any()


def test_lids_left_open_and_bent_eyes_are_seen() -> None:
    own = rig()
    assert own.binding is not None
    head = own.binding.template.astype(np.float64)
    delta = own.shape_delta.copy()
    a, b = own.binding.contact_pairs[0]
    way = (head[a] - head[b]) / np.linalg.norm(head[a] - head[b])
    delta[a] += 0.002 * way  # the first shape
    eye = np.flatnonzero(own.binding.parts == 2)[0]
    delta[2 * own.num_vertices + eye] += [0.003, 0, 0]  # the third shape
    found = Judge(egg(), own).measure(head, dataclasses.replace(own, shape_delta=delta))
    assert found["lids"] == pytest.approx([2, 0], abs=1e-3)
    assert 1 < found["eyes"].max() <= 3.01 and found["stretch"][0] > 0


def test_summary_is_over_all_values() -> None:
    values = {
        "lids": np.array([2.0, -2.0, 0, 0]),
        "lips smile": np.array([-1.0, 0]),
        "lips jawOpen + mouthClose": np.array([0.25]),
        "eyes": np.array([0.0, 3.0]),
        "stretch": np.array([0.1]),
        "folded": np.array([1, 2]),
    }
    told = summary(values)
    assert told["lids"]["mean_mm"] == 1 and told["lids"]["open_by_1_mm"] == 0.25
    assert told["lips smile"]["deeper"] == 0.5 and told["eyes"]["max_mm"] == 3
    assert told["folded_per_shape"] == 1.5


def test_frames_alone_have_neither_contacts_nor_parts() -> None:
    plain = without_contacts(rig()).binding
    assert plain is not None and not len(plain.contact_pairs) and not plain.parts.any()
