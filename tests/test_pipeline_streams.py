"""Estimates during sampling, progress and cancellation, and several threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_bundle as tiny
from tests.fakes import IMAGE, OTHER, Counting, fake_pipeline, in_metres, same
from topos_rt.errors import Cancelled, OptionError
from topos_rt.flow.sampling import noise
from topos_rt.flow.solvers import SOLVERS
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.manifest import GRAPHS
from topos_rt.pictures.image import load_image
from topos_rt.pipeline import HeadPipeline
from topos_rt.support.progress import Progress

pytestmark = pytest.mark.usefixtures("whole_pictures")


def test_estimates_carry_no_rig_and_the_head_does(tiny_pipe: HeadPipeline) -> None:
    heads = list(tiny_pipe.stream(IMAGE, preset="fast", steps=3))
    assert [head.rig is None for head in heads] == [True, True, False]
    assert "rig" not in heads[0].timings and "rig" in heads[-1].timings


def test_stream_ends_with_the_head_of_a_call(tiny_pipe: HeadPipeline) -> None:
    heads = list(tiny_pipe.stream(IMAGE, seed=3, steps=6, shift=2.0))
    final = tiny_pipe(IMAGE, seed=3, steps=6, shift=2.0)
    assert len(heads) == 6 and same(heads[-1], final)
    assert [head.metadata.get("preview_step") for head in heads] == [1, 2, 3, 4, 5, None]
    errors = [float(np.abs(head.positions - final.positions).max()) for head in heads]
    assert errors == sorted(errors, reverse=True) and errors[-2] > 0


def test_the_first_preview_is_the_decoded_clean_estimate(tiny_pipe: HeadPipeline) -> None:
    model, seed = tiny.TinyModel(), 8
    tokens = model.image_encoder(load_image(IMAGE, tiny.SIDE, tiny.SIDE))["tokens"]
    x = tiny.FLOW.temperature * np.float64(noise(seed, (1, tiny.N, tiny.D)))
    s = tiny.FLOW.sigma_min
    x0 = (1 - s) * x - (s + (1 - s) * 1.0) * model.velocity(x, 1.0, tokens)
    first = next(tiny_pipe.stream(IMAGE, seed=seed, guidance=0))
    expected = in_metres(model.vae_decoder(x0)["vertices"][0])
    assert np.abs(first.positions - expected[:, :3]).max() < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_streams_to_the_head_of_a_call(tiny_pipe: HeadPipeline, solver: str) -> None:
    even = {"preset": "reference", "steps": 24}  # equal steps; the solver replaces the preset's
    heads = list(tiny_pipe.stream(IMAGE, solver=solver, **even))
    final = tiny_pipe(IMAGE, solver=solver, **even)
    assert len(heads) == 24 and same(heads[-1], final)
    fine = tiny_pipe(IMAGE, preset="reference", steps=400, solver="ab3")
    assert (
        np.abs(heads[-2].positions - fine.positions).max()
        < 0.2 * np.abs(heads[0].positions - fine.positions).max()
    )
    coarse = tiny_pipe(IMAGE, **even)
    errors = [float(np.abs(head.positions - fine.positions).max()) for head in (final, coarse)]
    assert solver == "euler" or errors[0] < 0.3 * errors[1]


def test_previews_where_they_are_wanted(tiny_pipe: HeadPipeline) -> None:
    every = list(tiny_pipe.stream(IMAGE, steps=5))
    for previews, steps in (
        ([1, 4], [1, 4, None]),
        ([4, 1, 1], [1, 4, None]),
        ([2, 5], [2, None]),
        ([], [None]),
        (np.array([3]), [3, None]),
        (range(1, 6), [1, 2, 3, 4, None]),
        (None, [1, 2, 3, 4, None]),
    ):
        heads = list(tiny_pipe.stream(IMAGE, steps=5, previews=previews))  # type: ignore[arg-type]
        assert [head.metadata.get("preview_step") for head in heads] == steps
        assert all(same(head, every[(step or 5) - 1]) for head, step in zip(heads, steps, strict=True))


@pytest.mark.parametrize("previews", [[0], [6], [-1], [1.5], ["1"], "1", 3, [1, None]])
def test_bad_previews(tiny_pipe: HeadPipeline, previews: Any) -> None:
    with pytest.raises(OptionError, match=r"previews: got .*; expected step numbers, whole and from 1 to 5"):
        tiny_pipe.stream(IMAGE, steps=5, previews=previews)


def test_a_stream_of_one_step_is_the_head(tiny_pipe: HeadPipeline) -> None:
    assert [same(head, tiny_pipe(IMAGE, steps=1)) for head in tiny_pipe.stream(IMAGE, steps=1)] == [True]


def test_streams_and_calls_interleave(tiny_pipe: HeadPipeline) -> None:
    """An open stream holds no lock: the same thread may call, stream again, and drop the stream halfway."""
    expected = [list(tiny_pipe.stream(image, seed=1, steps=4)) for image in (IMAGE, OTHER)]
    first, second = (tiny_pipe.stream(image, seed=1, steps=4) for image in (IMAGE, OTHER))
    for one, other in zip(first, second, strict=True):
        assert same(one, expected[0].pop(0)) and same(other, expected[1].pop(0))
        assert tiny_pipe(OTHER, steps=2).metadata["steps"] == 2
    dropped = tiny_pipe.stream(IMAGE)
    next(dropped)
    dropped.close()  # type: ignore[attr-defined]
    next(tiny_pipe.stream(IMAGE))  # a second one, which nobody closes
    assert same(tiny_pipe(IMAGE, seed=1, steps=4), tiny_pipe(IMAGE, seed=1, steps=4))


def test_an_open_stream_does_not_stop_other_threads(tiny_pipe: HeadPipeline) -> None:
    stream = tiny_pipe.stream(IMAGE, steps=3)
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        assert same(pool.submit(tiny_pipe, IMAGE, steps=3).result(timeout=30), list(stream)[-1])


def test_threads_get_what_single_calls_get(tiny_bundle: Path) -> None:
    counting = {graph: Counting(graph) for graph in GRAPHS}
    used = fake_pipeline(tiny_bundle, **{graph: one.engine for graph, one in counting.items()})
    jobs = [(IMAGE if seed % 2 else OTHER, seed) for seed in range(12)]
    expected = [used(image, seed=seed, steps=5) for image, seed in jobs]

    def streamed(image: np.ndarray, seed: int) -> HeadMesh:
        return list(used.stream(image, seed=seed, steps=5))[-1]

    ways: list[Callable[[np.ndarray, int], HeadMesh]] = [lambda i, k: used(i, seed=k, steps=5), streamed]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: ways[n % 2](*jobs[n]), range(12)))
    assert all(map(same, found, expected))


def test_progress(tiny_pipe: HeadPipeline) -> None:
    seen: list[Progress] = []
    tiny_pipe(IMAGE, steps=2, callback=seen.append)
    stages = [("image", 0), ("image_encoder", 0), ("dit_context", 0)]
    stages += [("dit_step", 0), ("dit_step", 1), ("dit_step", 2), ("vae_decoder", 2), ("rig", 2)]
    assert [(p.stage, p.step) for p in seen] == stages
    assert {(p.steps, p.item, p.items) for p in seen} == {(2, 0, 1)}
    seen.clear()
    tiny_pipe([IMAGE, OTHER], steps=2, callback=seen.append)
    assert [(p.item, p.items) for p in seen if p.stage == "vae_decoder"] == [(0, 2), (1, 2)]
    seen.clear()
    tiny_pipe(IMAGE, seed=[1, 2, 3], steps=2, callback=seen.append)
    assert [p.item for p in seen if p.stage == "vae_decoder"] == [0, 1, 2]


@pytest.mark.parametrize(
    "stage, step", [("image", 0), ("dit_context", 0), ("dit_step", 2), ("vae_decoder", 4)]
)
def test_cancel(tiny_bundle: Path, stage: str, step: int) -> None:
    counting = Counting("dit_step")
    used = fake_pipeline(tiny_bundle, dit_step=counting.engine)

    def stop(progress: Progress) -> bool:
        return (progress.stage, progress.step) != (stage, step)

    with pytest.raises(Cancelled, match=f"stage {stage}, step {step} of 4"):
        used(IMAGE, steps=4, guidance=0, callback=stop)
    assert counting.runs == step
    with pytest.raises(Cancelled):
        list(used.stream(IMAGE, steps=4, guidance=0, callback=stop))
    assert used(IMAGE, steps=4, guidance=0).metadata["steps"] == 4


def test_what_a_callback_raises_is_raised(tiny_pipe: HeadPipeline) -> None:
    def fail(progress: Progress) -> None:
        raise KeyError(progress.stage)

    with pytest.raises(KeyError, match="image"):
        tiny_pipe(IMAGE, callback=fail)
    assert tiny_pipe(IMAGE).metadata["seed"] == 0


def test_a_callback_may_use_the_pipeline(tiny_pipe: HeadPipeline) -> None:
    inner: list[HeadMesh] = []
    tiny_pipe(
        IMAGE, steps=2, callback=lambda p: inner.append(tiny_pipe(OTHER, steps=1)) if p.step == 1 else None
    )
    assert len(inner) == 1 and same(inner[0], tiny_pipe(OTHER, steps=1))
