"""flow_step against its twin, and against the solvers whose steps it does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from topos_rt.errors import InputError
from topos_rt.flow.program import MAX_TERMS, Ref, flow_program, weights_table
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.solvers import SOLVERS
from topos_rt.gpu import ops


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [0, 1, 31, 255, 256, 257, 3000])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("in_place", [True, False])
def test_steps(arena: Any, size: int, count: int, in_place: bool) -> None:
    """The kernel gives the same bits as the twin, over all steps and past the last."""
    rng = np.random.default_rng([size, count, in_place])
    table, terms = draw(rng, 3, count), [draw(rng, size) for _ in range(count)]
    there = [arena.put(t) for t in terms]
    mine = terms[0] if in_place else np.full(size, np.nan, np.float32)
    out = there[0] if in_place else arena.put(mine)
    step, step_mine = arena.put(np.zeros(1, np.int32)), np.zeros(1, np.int32)
    weights = arena.put(table)
    for number in range(4):
        ops.flow_step(there, weights, step, out=out, stream=arena._stream.handle)
        ops.flow_step(terms, table, step_mine, out=mine)
        assert np.array_equal(arena.get(out), mine)
        assert arena.get(step)[0] == step_mine[0] == number + 1


@pytest.mark.parametrize("start", [-1, 3, 2**31 - 2])
def test_a_step_outside_changes_nothing(arena: Any, start: int) -> None:
    x, step = arena.put(np.ones(5, np.float32)), arena.put(np.int32([start]))
    ops.flow_step([x], arena.put(np.zeros((3, 1), np.float32)), step, out=x, stream=arena._stream.handle)
    assert np.array_equal(arena.get(x), np.ones(5)) and arena.get(step)[0] == start + 1


class Linear:
    """A field that depends on x and t; both velocities differ."""

    def conditional(self, x: np.ndarray, t: float) -> np.ndarray:
        return np.float32(0.5 + t) * x + np.float32(0.3)

    def unconditional(self, x: np.ndarray, t: float) -> np.ndarray:
        return np.float32(-0.2 * t) * x

    def guided(self, x: np.ndarray, t: float, w: float) -> tuple[np.ndarray, np.ndarray]:
        difference = self.conditional(x, t) - self.unconditional(x, t)
        return self.conditional(x, t) + np.float32(w) * difference, difference


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "more",
    [
        {"guidance": 0.0},
        {"guidance": 3.0, "interval": (0.3, 0.8)},
        {"guidance": 3.0, "reuse": 2, "shift": 3.0},
    ],
)
def test_a_loop_is_the_solver(arena: Any, solver: str, more: dict[str, Any]) -> None:
    settings = SamplerSettings(steps=9, solver=solver, **more)
    start, field = draw(np.random.default_rng(1), 7, 4), Linear()
    *_, last = sample(guided(field, settings), start, settings)
    program = flow_program(settings)
    table, step = arena.put(weights_table(program)), arena.put(np.zeros(1, np.int32))
    arrays = {Ref("state", 0): arena.put(start)}
    for k, evaluation in enumerate(program):
        state, w = arena.get(arrays[Ref("state", k)]), evaluation.guidance
        velocity, difference = field.guided(state, evaluation.t, 0.0 if w is None else w)
        arrays |= {Ref("velocity", k): arena.put(velocity), Ref("difference", k): arena.put(difference)}
        for total in evaluation.sums:
            terms = [arrays[ref] for ref, _ in total.terms]
            terms += [terms[0]] * (MAX_TERMS - len(terms))
            arrays[total.target] = arena.empty(start.shape, np.float32)
            ops.flow_step(terms, table, step, out=arrays[total.target], stream=arena._stream.handle)
    latent = arena.get(arrays[Ref("state", len(program))])
    assert np.allclose(latent, last.x_next, rtol=5e-5, atol=5e-5)


ONES = np.ones((2, 3), np.float32)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no terms": ({"terms": []}, "0 terms"),
    "five terms": ({"terms": [ONES] * 5}, "5 terms"),
    "another shape": ({"terms": [ONES, np.ones((3, 2), np.float32)]}, r"terms\[1\]: got float32 \[3, 2\]"),
    "FP64": ({"terms": [ONES, ONES.astype(float)]}, r"terms\[1\]: got float64"),
    "table of another size": ({"table": np.zeros((4, 3), np.float32)}, "table: got"),
    "step of another type": ({"step": np.zeros(1, np.int64)}, "step: got int64"),
    "out in FP16": ({"out": ONES.astype(np.float16)}, "out: got float16"),
    "strided": ({"terms": [ONES, np.ones((2, 6), np.float32)[:, ::2]]}, r"terms\[1\]: got a strided"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    changes, message = BAD[case]
    given = {
        "terms": [ONES, ONES],
        "table": np.zeros((4, 2), np.float32),
        "step": np.zeros(1, np.int32),
        "out": ONES.copy(),
    } | changes
    with pytest.raises(InputError, match=message):
        ops.flow_step(**given)


def test_out_may_not_overlap_a_term_in_part(arena: Any) -> None:
    x, step = arena.put(np.ones(9, np.float32)), arena.put(np.zeros(1, np.int32))
    first, rest = (dataclasses.replace(x, address=x.address + 4 * i, shape=(8,)) for i in (0, 1))
    with pytest.raises(InputError, match=r"memory shared with terms\[0\]"):
        ops.flow_step([first], arena.put(np.ones((1, 1), np.float32)), step, out=rest)
