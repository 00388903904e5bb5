"""Programs against the sampler that they replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from topos_rt.errors import OptionError
from topos_rt.flow import solvers
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.program import MAX_TERMS, Ref, flow_program
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.flow.solvers import SOLVERS, Step

TURN, PULL = np.float64([[0, 1], [-1, 0]]), np.float64([[-0.4, 0.3], [0.1, 0.2]])
START = np.float64([0.7, -1.1])


class Linear:
    """A field with a conditional and an unconditional velocity, both far from constant."""

    def conditional(self, x: Any, t: float) -> Any:
        return TURN @ x + np.sin(3 * t)

    def guided(self, x: Any, t: float, w: float) -> tuple[Any, Any]:
        v, free = self.conditional(x, t), PULL @ x - t**2
        return (1 + w) * v - w * free, v - free


def go_through(settings: SamplerSettings) -> tuple[Any, int]:
    """Return the latent that the program computes, and the number of passes through the network."""
    network, passes = Linear(), 0
    arrays: dict[Ref, Any] = {Ref("state", 0): START}
    for k, evaluation in enumerate(flow_program(settings)):
        x = arrays[Ref("state", k)]
        passes += 1 if evaluation.guidance is None else 2
        if evaluation.guidance is None:
            arrays[Ref("velocity", k)] = network.conditional(x, evaluation.t)
        else:
            arrays[Ref("velocity", k)], arrays[Ref("difference", k)] = network.guided(
                x, evaluation.t, evaluation.guidance
            )
        for total in evaluation.sums:
            assert len(total.terms) <= MAX_TERMS
            arrays[total.target] = sum(weight * arrays[ref] for ref, weight in total.terms)
    return arrays[max(ref for ref in arrays if ref.kind == "state")], passes


GUIDANCE = {
    "off": {"guidance": 0.0},
    "on": {"guidance": 3.0},
    "in an interval": {"guidance": 2.0, "interval": (0.3, 0.8)},
    "reused": {"guidance": 3.0, "reuse": 3},
}


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps, shift", [(1, 1.0), (2, 1.0), (7, 3.0), (50, 1.0)])
def test_the_program_is_the_run(solver: str, steps: int, shift: float, guidance: str) -> None:
    settings = SamplerSettings(steps=steps, solver=solver, shift=shift, **GUIDANCE[guidance])
    *_, last = sample(guided(Linear(), settings), START, settings)
    latent, passes = go_through(settings)
    assert np.allclose(latent, last.x_next, rtol=1e-9, atol=1e-9)
    assert passes == network_evaluations(settings)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_take_one_sum_a_step(preset: str) -> None:
    settings = SamplerSettings(**{**vars(PRESETS[preset]), "guidance": 3.0})
    program = flow_program(settings)
    assert len(program) == settings.steps
    assert all(len(evaluation.sums) == 1 for evaluation in program)


def test_times_of_one_s_own() -> None:
    settings = SamplerSettings(steps=3, solver="ab3", times=(1.0, 0.9, 0.2, 0.0), guidance=0.0)
    *_, last = sample(guided(Linear(), settings), START, settings)
    assert np.allclose(go_through(settings)[0], last.x_next, rtol=1e-9)


def test_what_has_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="guidance"):
        flow_program(SamplerSettings(steps=4))

    def hoarder(velocity: Any, x: Any, times: Sequence[float]) -> Iterator[Step]:
        """Step by a weighted sum of all velocities so far."""
        seen: list[Any] = []
        for k, t in enumerate(times[:-1]):
            seen.append(velocity(x, t))
            x_next = x + sum((j + k * j**2) * v for j, v in enumerate(seen))
            yield Step(k, t, times[k + 1], x, seen[-1], x_next)
            x = x_next

    monkeypatch.setitem(solvers.SOLVERS, "hoarder", hoarder)
    with pytest.raises(OptionError, match="hoarder, whose steps look back further"):
        flow_program(SamplerSettings(steps=12, solver="hoarder", guidance=0.0))
