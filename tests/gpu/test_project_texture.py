"""project_texture and finish_texture, on a GPU, on the host and compiled for the CPU, against their twins."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.gpu import host_gpu
from tests.gpu.texture_inputs import finishing, projection
from topos_rt.errors import InputError
from topos_rt.gpu import texture_ops, texture_reference
from topos_rt.gpu.texture_reference import FinishTexture


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The passes for the CPU, built here."""
    import pybind11

    path = tmp_path_factory.mktemp("native") / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{pybind11.get_include()}"]
    sources = [host_gpu.CSRC / name for name in ("native.cpp", "native_head.cpp")]
    numerics = host_gpu.CSRC.parent / "sdk" / "src"
    listed = re.search(r"set\(head_sources ([^)]*)\)", (host_gpu.CSRC.parent / "CMakeLists.txt").read_text())
    assert listed is not None
    sources += [numerics / name for name in listed[1].split()]
    flags = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-Wall",
        "-Wextra",
        "-Werror",
        *includes,
        f"-I{numerics}",
    ]
    words = [needs.compiler(), *flags, *map(str, sources), "-o", str(path), "-lpthread"]
    subprocess.run(words, check=True)
    return _load(path)


def _load(path: Path) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("topos_rt._native", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["numpy", "native"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Whether ops on the host run in NumPy or compiled."""
    module = request.getfixturevalue("compiled") if request.param == "native" else None
    monkeypatch.setattr(texture_ops, "native", lambda: module)
    yield request.param


def truth(arguments: tuple[Any, ...]) -> np.ndarray:
    """Return what project_texture should make, in float64."""
    vertices, weights, attributes, picture, light, base = arguments
    return texture_reference.project_texture(
        vertices, weights, attributes.astype(np.float64), picture.astype(np.float64), light, base
    )


@pytest.mark.parametrize("texels", [0, 1, 127, 128, 300])
def test_projection_on_a_device(arena: Any, texels: int) -> None:
    arguments = projection(np.random.default_rng(texels), texels)
    out = arena.put(np.full((texels, 4), np.nan, np.float32))
    texture_ops.project_texture(*map(arena.put, arguments), out=out, stream=arena._stream.handle)
    assert_near(arena.get(out), arguments)


@pytest.mark.parametrize("texels", [0, 1, 300])
def test_projection_on_the_host(passes: str, texels: int) -> None:
    arguments = projection(np.random.default_rng(texels), texels)
    assert_near(texture_ops.project_texture(*arguments), arguments)


def assert_near(found: np.ndarray, arguments: tuple[Any, ...]) -> None:
    """Compare with the truth, as near as the twin in FP32 comes, but at the rim, where rounding decides."""
    true = truth(arguments)
    twin = texture_reference.project_texture(*arguments)
    same = (found[:, 3] > 0) == (true[:, 3] > 0)
    assert np.count_nonzero(~same) <= np.count_nonzero((twin[:, 3] > 0) != (true[:, 3] > 0)) + 1
    apart = np.abs(found - true)[same].max(initial=0)
    assert apart <= max(4 * np.abs(twin - true)[same].max(initial=0), 2e-5)
    if len(true) > 100:
        assert 10 < np.count_nonzero(true[:, 3]) < len(true) - 10  # both kinds of texels are tested


def test_the_light_is_what_is_taken_away(passes: str) -> None:
    vertices, weights, attributes, _, light, base = projection(np.random.default_rng(3), 200)
    light[:] = 0
    light[1] = 0.4  # more from the right, of no colour
    attributes[:, :3] = [3, 3, 1]
    flat = np.full((9, 7, 3), 0.25, np.float32)
    out = texture_ops.project_texture(vertices, weights, attributes, flat, light, base * 0)
    normals = sum(attributes[vertices[:, k], 3:] * weights[:, k, None] for k in range(3))
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    assert np.allclose(out[:, 0], np.log(0.25) - 0.4 * normals[:, 0], atol=1e-5)


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_finishing_on_a_device(arena: Any, step: int, mirror: bool) -> None:
    given = finishing(np.random.default_rng(step), step=step) | {"mirror": mirror}
    want = texture_reference.finish_texture(FinishTexture(**given))
    there = {name: arena.put(v) if isinstance(v, np.ndarray) else v for name, v in given.items()}
    out = arena.put(np.zeros(want.shape, np.uint8))
    texture_ops.finish_texture(FinishTexture(**there), out=out, stream=arena._stream.handle)
    assert_same_colours(arena.get(out), want)


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_finishing_on_the_host(passes: str, step: int, mirror: bool) -> None:
    given = finishing(np.random.default_rng(step), step=step) | {"mirror": mirror}
    assert_same_colours(
        texture_ops.finish_texture(FinishTexture(**given)),
        texture_reference.finish_texture(FinishTexture(**given)),
    )


def assert_same_colours(found: np.ndarray, want: np.ndarray) -> None:
    """Rounding may move a colour to the next of 4096 steps, which in the dark is many of 256 values."""
    apart = np.abs(found.astype(int) - want.astype(int))
    assert apart.max() <= 13 and np.mean(apart > 0) < 0.01, (apart.max(), np.mean(apart > 0))


def test_mirroring_takes_the_other_side_where_this_one_is_not_seen(passes: str) -> None:
    given = finishing(np.random.default_rng(0))
    given["cells"][:] = given["tone"][:] = given["hair"][:] = 0
    given["window_cells"][:] = [1, 1, 0, 0, 0]
    given["texels"][:] = 0
    given["texels"][:, :12] = [-1, -1, -1, 1]  # the left half was seen, and is dark
    seen = texture_ops.finish_texture(FinishTexture(**given))[4:20, 4:28]
    darker = {"base": given["base"] * np.float32(np.exp(-1)), "texels": given["texels"] * 0}
    dark = texture_ops.finish_texture(FinishTexture(**given | darker))
    assert np.abs(seen.astype(int) - dark[4:20, 4:28]).max() <= 13
    alone = texture_ops.finish_texture(FinishTexture(**given | {"mirror": False}))[4:20, 16:28]
    plain = texture_ops.finish_texture(FinishTexture(**given | {"texels": given["texels"] * 0}))[4:20, 16:28]
    assert np.array_equal(alone, plain)


def test_the_same_bits_with_any_number_of_threads(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texture_ops, "native", lambda: compiled)
    arguments, given = projection(np.random.default_rng(1), 301), finishing(np.random.default_rng(1))
    results = []
    for threads in (1, 3, 64):
        monkeypatch.setattr(texture_ops, "usable_cores", lambda threads=threads: threads)
        results.append(
            (texture_ops.project_texture(*arguments), texture_ops.finish_texture(FinishTexture(**given)))
        )
    for texels, colours in results[1:]:
        assert np.array_equal(texels, results[0][0]) and np.array_equal(colours, results[0][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (31, 17, 3), (4, 40, 1)])
def test_box_filters_give_the_bits_of_the_twin(
    compiled: Any, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: type
) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    before = values.copy()
    monkeypatch.setattr(texture_ops, "native", lambda: compiled)
    for radii in ([1], [2, 3, 3], [12], []):
        found = texture_ops.box_means(values, radii)
        assert np.array_equal(found, texture_reference.box_means(values, radii)), radii
        assert found.dtype == dtype and np.array_equal(values, before)
    padded = np.pad(values.astype(np.float64), [(2, 2), (2, 2), (0, 0)][: values.ndim], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1)).mean((-1, -2))
    assert np.allclose(texture_ops.box_means(values, [2]), windows, atol=1e-5)


def test_bad_input() -> None:
    arguments = projection(np.random.default_rng(0), 5)
    given = finishing(np.random.default_rng(0))

    def with_(position: int, value: Any) -> tuple[Any, ...]:
        return (*arguments[:position], value, *arguments[position + 1 :])

    cases: list[tuple[Any, str]] = [
        (
            lambda: texture_ops.project_texture(*with_(0, arguments[0] + 40)),
            r"vertices: got .*expected 0\.\.39",
        ),
        (lambda: texture_ops.project_texture(*with_(0, arguments[0][:4])), "weights: got"),
        (lambda: texture_ops.project_texture(*with_(2, arguments[2][:, :5])), "attributes: got"),
        (lambda: texture_ops.project_texture(*with_(3, arguments[3][:1])), "two or more pixels"),
        (
            lambda: texture_ops.project_texture(*with_(3, arguments[3].astype(np.float64))),
            "picture: got float64",
        ),
        (lambda: texture_ops.project_texture(*with_(4, arguments[4][:8])), "light: got"),
        (lambda: texture_ops.project_texture(*arguments, out=np.zeros((5, 4))), "out: got float64"),
        (lambda: texture_ops.finish_texture(FinishTexture(**given | {"corner": (20, 4)})), "texture: got"),
        (
            lambda: texture_ops.finish_texture(FinishTexture(**given | {"cells": given["cells"][:7]})),
            "texture: got|cells: got",
        ),
        (
            lambda: texture_ops.finish_texture(FinishTexture(**given | {"texels": given["texels"][..., :3]})),
            "texels: got",
        ),
        (
            lambda: texture_ops.finish_texture(FinishTexture(**given | {"srgb": given["srgb"][:9]})),
            "srgb: got",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
