"""Habits of people who write Python: what they type, print, pickle, and return from callbacks."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topos_rt
from tests import needs
from topos_rt import Cancelled, HeadPipeline, InputError, MeshInputError, OptionError, errors, jobs
from topos_rt.engines import AUTO, BACKENDS
from topos_rt.engines.contract import PRECISIONS
from topos_rt.flow.settings import PRESETS
from topos_rt.flow.solvers import SOLVERS
from topos_rt.model.decoders import DECODERS
from topos_rt.support.progress import cancels

pytestmark = pytest.mark.usefixtures("whole_pictures")

IMAGE = np.full((64, 64, 3), 128, np.uint8)


@pytest.fixture
def pipe(tiny_bundle: Path) -> Iterator[HeadPipeline]:
    with HeadPipeline.open(tiny_bundle, "onnxruntime", threads=1) as opened:
        yield opened


def test_every_error_class_is_public() -> None:
    own = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert own <= set(topos_rt.__all__)
    for name in own:
        assert getattr(topos_rt, name) is getattr(errors, name)


NAMES = {
    "PresetName": PRESETS,
    "SolverName": SOLVERS,
    "BackendName": {AUTO, *BACKENDS},
    "PrecisionName": PRECISIONS,
    "DecoderName": DECODERS,
}


@pytest.mark.parametrize("name", NAMES)
def test_type_checkers_know_the_names_of_the_tables(name: str) -> None:
    assert set(typing.get_args(getattr(jobs, name))) == set(NAMES[name])


TYPO = """
import io
import numpy as np
from topos_rt import HeadPipeline, generate

pipe = HeadPipeline.open("mini", {backend!r}, decoder={decoder!r}, precision={precision!r})
head = pipe("a.png", preset={preset!r}, solver={solver!r})
heads = pipe("a.png", seed=range(3))
generate("a.png", backend={backend!r}, preset={preset!r})
with open("a.png", "rb") as file, open("b.png", "rb", buffering=0) as raw:
    files = pipe([file, raw])
    data: bytes = pipe(io.BytesIO(file.read())).to_bytes("glb") + pipe(raw).preview(size=64)
    head.save(io.BytesIO(data), "glb", quantize=True)
one: np.float32 = head.positions[0, 0]
many: list[int] = [len(each.positions) for each in heads]
"""
RIGHT = {"backend": "auto", "decoder": "engine", "precision": "fp16", "preset": "fast", "solver": "euler"}


def test_type_checkers_catch_a_typo(tmp_path: Path) -> None:
    needs.module("mypy")
    cases = {"right": RIGHT} | {name: RIGHT | {name: RIGHT[name] + "x"} for name in RIGHT}
    for name, values in cases.items():
        (tmp_path / f"case_{name}.py").write_text(TYPO.format(**values))
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(tmp_path / "cache"),
        *map(str, sorted(tmp_path.glob("*.py"))),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    found = {
        line.partition("case_")[2].partition(".py")[0]
        for line in done.stdout.splitlines()
        if "error" in line and "case_" in line
    }
    assert found == set(RIGHT), done.stdout


SEEDS: list[Any] = [range(2), [0, 1], (0, 1), np.arange(2), np.array([0, 1], np.uint64)]


@pytest.mark.parametrize("seeds", SEEDS)
def test_seeds_of_every_kind(pipe: HeadPipeline, seeds: Any) -> None:
    want = [pipe(IMAGE, seed=seed).positions.tobytes() for seed in (0, 1)]
    assert [head.positions.tobytes() for head in pipe(IMAGE, seed=seeds)] == want
    assert [head.positions.tobytes() for head in pipe([IMAGE, IMAGE], seed=seeds)] == want
    assert pipe(IMAGE, seed=np.int64(1)).positions.tobytes() == want[1]


@pytest.mark.parametrize("seeds", ["01", b"01", {0, 1}, np.array([0.5]), [True], None])
def test_what_is_no_seed(pipe: HeadPipeline, seeds: Any) -> None:
    with pytest.raises(OptionError, match="seed: got"):
        pipe(IMAGE, seed=seeds)


def test_short_reprs(pipe: HeadPipeline) -> None:
    head = pipe(IMAGE)
    for thing in (pipe, head, head.rig, head.topology, pipe.bundle):
        assert len(repr(thing)) < 200 and "\n" not in repr(thing) and repr(thing).startswith("<")


def test_did_you_mean(pipe: HeadPipeline) -> None:
    head = pipe(IMAGE)
    with pytest.raises(
        MeshInputError, match=r"unknown blendshape: got 'jawopen'; .*; fix: did you mean 'jawOpen'"
    ):
        head.posed({"jawopen": 1.0})
    assert head.rig is not None
    joint = head.rig.joint_names[0]
    with pytest.raises(MeshInputError, match=f"unknown joint: .*; fix: did you mean '{joint}'"):
        head.posed({}, degrees={joint.upper(): [0, 0, 0]})
    with pytest.raises(MeshInputError) as caught:
        head.posed({"x" * 10_000: 1.0})
    assert caught.value.fix is None and len(str(caught.value)) < 500


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_pipeline_cannot_be_pickled_or_copied(pipe: HeadPipeline, use: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be pickled or copied: .*; fix: open it in each process"):
        use(pipe)


def test_heads_can_be_pickled(pipe: HeadPipeline) -> None:
    head = pipe(IMAGE)
    again = pickle.loads(pickle.dumps(head))
    assert again.positions.tobytes() == head.positions.tobytes() and again.metadata == head.metadata


CALLS: dict[str, Any] = {
    "call": lambda pipe: pipe(IMAGE),
    "list": lambda pipe: pipe([IMAGE]),
    "each": lambda pipe: list(pipe.each(IMAGE)),
    "stream": lambda pipe: list(pipe.stream(IMAGE)),
    "retopologize": lambda pipe: pipe.retopologize(
        np.eye(3).repeat(8, 0) + np.arange(24)[:, None] / 99, np.ones((24, 3)), passes=1
    ),
    "warm_up": lambda pipe: pipe.warm_up(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_pipeline_says_so(pipe: HeadPipeline, call: str) -> None:
    pipe.close()
    with pytest.raises(
        InputError, match=r"this pipeline is closed: got a call after close.*; fix: open it again"
    ) as caught:
        CALLS[call](pipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answer", [False, 0, 0.0, "", [], (), np.False_, np.int64(0)])
def test_a_callback_cancels_by_anything_false_but_none(pipe: HeadPipeline, answer: Any) -> None:
    with pytest.raises(Cancelled, match="cancelled by the callback"):
        pipe(IMAGE, callback=lambda progress: answer)


@pytest.mark.parametrize("answer", [None, True, 1, "go on", [0], np.True_])
def test_a_callback_that_goes_on(pipe: HeadPipeline, answer: Any) -> None:
    assert not cancels(answer)
    pipe(IMAGE, callback=lambda progress: answer)


def test_what_a_callback_raises_comes_out(pipe: HeadPipeline) -> None:
    def stop(progress: object) -> None:
        raise StopIteration("mine")

    with pytest.raises((StopIteration, RuntimeError), match=r"mine|StopIteration"):
        pipe(IMAGE, callback=stop)


def test_a_precision_that_a_backend_does_not_have(tiny_bundle: Path) -> None:
    with pytest.raises(
        OptionError, match="precision: got 'fp16'; expected fp32: the backend has no other; fix: leave"
    ):
        HeadPipeline.open(tiny_bundle, "onnxruntime", precision="fp16")
    HeadPipeline.open(tiny_bundle, "onnxruntime", precision="fp32", threads=1).close()
