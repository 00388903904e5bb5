"""The fake backend of the C library: heads without ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import Handle, constants

FAKE, CPU = 100, 1
NO_LIBRARY = Path("/nowhere/libonnxruntime.so")


@pytest.fixture(scope="module")
def fake(api: capi.Api) -> Iterator[Handle]:
    with capi.runtime(api, NO_LIBRARY, flags=constants()["TOPOS_RUNTIME_FAKE"]) as made:
        yield made


@pytest.fixture(scope="module")
def model(api: capi.Api, fake: Handle, packs: Any) -> Iterator[Handle]:
    made = capi.load(api, fake, packs["mini"][1], 1)
    yield made
    api.call("model_release", made)


def test_it_needs_no_onnxruntime(api: capi.Api, fake: Handle, model: Handle, packs: Any) -> None:
    info = api.told("runtime_get_info", "runtime_info", fake)
    assert (info.ort_api, info.ort_version, info.ort_library) == (0, b"", b"")
    assert api.told("model_get_info", "model_info", model).backend == FAKE
    with pytest.raises(capi.CError, match="TOPOS_E_UNAVAILABLE"):
        capi.load(api, fake, packs["mini"][1], backend=CPU)


def test_heads_are_templates_that_depend_on_the_seed_and_the_picture(api: capi.Api, model: Handle) -> None:
    picture, other = capi.image(smooth(64, 48)), capi.image(smooth(48, 64))
    made = []
    for image, seed in ((picture, 1), (picture, 1), (picture, 2), (other, 1)):
        (head,) = capi.generate(api, model, capi.request([image], [seed], steps=3, crop=capi.CROP_AUTO))
        made.append(capi.vertices(api, model, head)[0])
        face = api.told("head_get_face", "face", head)
        assert face.found and face.fitted and abs(face.yaw) < 5 and abs(face.roll) < 5
        assert face.box[0] > 0 and face.box[0] + face.box[2] < 64
        api.call("head_release", head)
    assert made[0].tobytes() == made[1].tobytes()
    for head in made[2:]:
        assert 0 < np.abs(head - made[0]).max() < 0.01
    assert 0.2 < np.ptp(made[0][:, 1]) < 0.5  # a head, in metres


def test_guidance_and_latents(api: capi.Api, model: Handle) -> None:
    image = capi.image(smooth(64, 48))
    (head,) = capi.generate(api, model, capi.request([image], [1], steps=3, guidance=2.0))
    latents = capi.latent(api, model, head)[None]
    (again,) = capi.generate(api, model, capi.request([], [], latents=np.ascontiguousarray(latents)))
    assert capi.vertices(api, model, head)[0].tobytes() == capi.vertices(api, model, again)[0].tobytes()
    for made in (head, again):
        api.call("head_release", made)


def test_it_may_be_asked_for_where_onnxruntime_is(api: capi.Api, rt: Handle, packs: Any) -> None:
    made = capi.load(api, rt, packs["tiny"][1], backend=FAKE)
    assert api.told("model_get_info", "model_info", made).backend == FAKE
    (head,) = capi.generate(api, made, capi.request([capi.image(smooth(64, 48))]))
    api.call("head_release", head)
    api.call("model_release", made)
