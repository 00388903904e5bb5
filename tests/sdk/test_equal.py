"""The C library and the Python package make the same heads, bit for bit, on the same ONNX Runtime."""

from __future__ import annotations

import ctypes
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.sample_pictures import smooth
from tests.sdk import capi
from topos_rt import HeadPipeline
from topos_rt.flow.settings import PRESETS
from topos_rt.flow.solvers import SOLVERS

Packs = dict[str, tuple[Path, Path]]
WHOLE: dict[str, Any] = {"crop": "none", "face_check": False, "texture": "none"}


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    made = smooth(height, width)
    if channels == 3:
        return made
    alpha = np.linspace(0, 255, width).astype(np.uint8)
    return np.dstack([made, np.broadcast_to(alpha, (height, width))])


def c_head(
    api: capi.Api, model: capi.Handle, image: Any, seed: int, **given: Any
) -> tuple[np.ndarray, np.ndarray]:
    (head,) = capi.generate(api, model, capi.request([image], [seed], **given))
    made = capi.vertices(api, model, head)
    api.call("head_release", head)
    return made


def assert_equal(head: Any, made: capi.Mesh) -> None:
    for mine, own in zip((head.positions, head.normals), made, strict=True):
        assert mine.tobytes() == own.tobytes(), f"differ by up to {np.abs(mine - own).max()}"


GUIDANCE = [
    {}, {"guidance": 0.0}, {"guidance": 2.7}, {"guidance": 1.3, "reuse": 3},
    {"guidance": 3.0, "interval": (0.2, 0.8)}, {"guidance": 1.7, "interval": (0.1, 0.9), "reuse": 2},
]  # fmt: skip


@pytest.mark.parametrize("name", ["tiny", "seeing"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guidance", GUIDANCE, ids=str)
def test_solvers_and_guidance(
    name: str, solver: str, guidance: dict[str, Any], models: Any, api: capi.Api
) -> None:
    model, pipe = models(name)
    pixels = picture(40, 50)
    number = list(SOLVERS).index(solver)
    for seed, steps, shift in ((0, 1, 1.0), (7, 2, 3.0), (2**64 - 1, 9, 1.7), (123456789, 16, 0.4)):
        given = {"steps": steps, "shift": shift, **guidance}
        head = pipe(pixels, seed=seed, solver=solver, **given, **WHOLE)  # type: ignore[arg-type]
        assert_equal(head, c_head(api, model, capi.image(pixels), seed, solver=number, **given))


@pytest.mark.parametrize("name", ["tiny", "seeing"])
@pytest.mark.parametrize(
    "given",
    [
        {}, {"temperature": 0.0}, {"temperature": 1.9}, {"times": [1.0, 0.9, 0.55, 0.1, 0.0]},
        {"times": (1, 0.5, 0), "temperature": 0.3}, {"steps": 1000},
    ],
    ids=str,
)  # fmt: skip
def test_temperatures_and_times(name: str, given: dict[str, Any], models: Any, api: capi.Api) -> None:
    model, pipe = models(name)
    pixels = picture(33, 31)
    for seed in (1, 2**63):
        head = pipe(pixels, seed=seed, **given, **WHOLE)
        assert_equal(head, c_head(api, model, capi.image(pixels), seed, **given))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", [0, 99])
def test_presets_of_the_bundled_model(preset: str, seed: int, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = np.asarray(Image.open(Path(__file__).parents[2] / "examples/astronaut.jpg").convert("RGB"))
    number = 1 + list(PRESETS).index(preset)
    assert api.call("model_preset_name", model, number - 1).decode() == preset
    head = pipe(pixels, seed=seed, preset=preset, **WHOLE)  # type: ignore[arg-type]
    assert_equal(head, c_head(api, model, capi.image(pixels), seed, preset=number))


def test_guidance_and_solvers_of_the_bundled_model(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = picture(200, 140)
    for number, solver in enumerate(SOLVERS):
        given = {"steps": 3, "guidance": 1.1, "reuse": 2, "temperature": 0.8}
        head = pipe(pixels, seed=number, solver=solver, **given, **WHOLE)  # type: ignore[arg-type]
        assert_equal(head, c_head(api, model, capi.image(pixels), number, solver=number, **given))


@pytest.mark.parametrize("size", [(16, 16), (16, 700), (700, 16), (31, 33), (129, 128), (300, 201)])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_sizes_and_alpha(size: tuple[int, int], channels: int, name: str, models: Any, api: capi.Api) -> None:
    model, pipe = models(name)
    pixels = picture(*size, channels)
    head = pipe(pixels, seed=3, steps=1, **WHOLE)
    assert_equal(head, c_head(api, model, capi.image(pixels), 3, steps=1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = picture(90, 61)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    head = pipe(file.getvalue(), seed=4, steps=1, **WHOLE)
    assert_equal(head, c_head(api, model, capi.image(pixels, orientation), 4, steps=1))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_image_files(suffix: str, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    for orientation in (1, 6):
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        Image.fromarray(picture(90, 61)).save(file, {"png": "PNG", "jpg": "JPEG"}[suffix], exif=exif)
        data = np.frombuffer(file.getvalue(), np.uint8)
        image = capi.struct("image", data=data.ctypes.data, data_size=data.size)
        try:
            made = c_head(api, model, image, 4, steps=1)
        except capi.CError as error:
            needs.machine("this build reads" not in error.message, f"CMake found no library for {suffix}")
            raise
        assert_equal(pipe(file.getvalue(), seed=4, steps=1, **WHOLE), made)
    for bad in (data[:-500].copy(), np.frombuffer(b"GIF89a and more", np.uint8)):
        image = capi.struct("image", data=bad.ctypes.data, data_size=bad.size)
        with pytest.raises(capi.CError, match="image file") as caught:
            c_head(api, model, image, 4, steps=1)
        assert caught.value.name == "TOPOS_E_IMAGE"


def test_rows_from_below_and_apart_and_in_another_order(models: Any, api: capi.Api) -> None:
    model, _ = models("tiny")
    pixels = picture(40, 30, 4)
    (expected, _) = c_head(api, model, capi.image(pixels), 1)
    wide = np.zeros((40, 37, 4), np.uint8)
    wide[:, :30] = pixels
    below = np.ascontiguousarray(wide[::-1])
    blue = np.ascontiguousarray(pixels[..., [2, 1, 0, 3]])
    for kept, stride, form in ((wide, 148, 2), (below, -148, 2), (blue, 0, 3), (blue, 120, 3)):
        image = capi.image(pixels)
        image.data, image.data_size, image.row_stride, image.format = (
            kept.ctypes.data,
            kept.nbytes,
            stride,
            form,
        )
        (made, _) = c_head(api, model, image, 1)
        assert made.tobytes() == expected.tobytes()


def test_several_seeds_and_images_are_those_of_single_requests(models: Any, api: capi.Api) -> None:
    model, _ = models("tiny")
    images = [capi.image(picture(20 + k, 30)) for k in range(3)]
    heads = capi.generate(api, model, capi.request(images, [5, 6, 7]), 3)
    for head, image, seed in zip(heads, images, (5, 6, 7), strict=True):
        assert api.told("head_get_info", "head_info", head).seed == seed
        assert capi.vertices(api, model, head)[0].tobytes() == c_head(api, model, image, seed)[0].tobytes()
    for seed, head in enumerate(capi.generate(api, model, capi.request(images[:1], range(4)), 4)):
        assert (
            capi.vertices(api, model, head)[0].tobytes() == c_head(api, model, images[0], seed)[0].tobytes()
        )
    for head, image in zip(capi.generate(api, model, capi.request(images, [9]), 3), images, strict=True):
        assert capi.vertices(api, model, head)[0].tobytes() == c_head(api, model, image, 9)[0].tobytes()


def test_a_latent_makes_its_head_again(models: Any, api: capi.Api) -> None:
    model, _ = models("mini")
    (head,) = capi.generate(api, model, capi.request([capi.image(picture(64, 64))], [8], steps=2))
    latents = np.stack([capi.latent(api, model, head)] * 2)
    assert latents.std() > 0
    for again in capi.generate(api, model, capi.request([], [], latents=latents), 2):
        assert capi.vertices(api, model, again)[0].tobytes() == capi.vertices(api, model, head)[0].tobytes()


@pytest.mark.parametrize("solver", SOLVERS)
def test_previews_are_those_of_a_stream(solver: str, models: Any, api: capi.Api) -> None:
    model, pipe = models("tiny")
    pixels, number = picture(32, 32), list(SOLVERS).index(solver)
    given = {"steps": 5, "guidance": 1.5, "reuse": 2}
    estimates = list(pipe.stream(pixels, seed=2, solver=solver, **given, **WHOLE))  # type: ignore[arg-type]
    wanted = capi.request([capi.image(pixels)], [2], flags=1, solver=number, preview_every=1, **given)
    job = capi.Handle(api.made("submit", model, wanted))
    found = []
    while api.call("job_step", job) == capi.PENDING:
        found += preview(api, model, job)
    assert [step for step, _ in found] == [1, 2, 3, 4]
    for estimate, (_, made) in zip(estimates, found, strict=False):
        assert_equal(estimate, made)
    api.call("job_release", job)


def preview(
    api: capi.Api, model: capi.Handle, job: capi.Handle
) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:

    head, step = ctypes.c_void_p(), ctypes.c_uint32()
    if api.call("job_take_preview", job, ctypes.byref(head), ctypes.byref(step)) == capi.PENDING:
        return []
    handle = capi.Handle(head.value or 0)
    info = api.told("head_get_info", "head_info", handle)
    assert info.is_preview and info.step == step.value
    made = capi.vertices(api, model, handle)
    api.call("head_release", handle)
    return [(step.value, made)]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_that_of_python(
    threads: int, api: capi.Api, ort: Path, packs: Packs
) -> None:
    bundle, pack = packs["mini"]
    pixels = picture(128, 128)
    with (
        capi.runtime(api, ort, threads) as rt,
        HeadPipeline.open(bundle, "onnxruntime", threads=threads, decoder="engine") as pipe,
    ):
        model = capi.load(api, rt, pack)
        head = pipe(pixels, seed=11, steps=2, **WHOLE)
        assert_equal(head, c_head(api, model, capi.image(pixels), 11, steps=2))
        api.call("model_release", model)
