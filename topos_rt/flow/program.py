"""A run of the sampler as a list of weighted sums, for `topos_rt.gpu.ops.flow_step`.

Every solver, with guidance, its interval and its reuse, makes each state from the noise and the velocities by
sums whose weights depend on the settings alone. So one run on coordinates, in which each velocity is a new
basis vector, tells all of them: whatever is in `topos_rt.flow.solvers.SOLVERS` becomes a program that a GPU
goes through on its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.flow.counting import velocity_evaluations
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.support.arrays import Array

MAX_TERMS = 4  # of one sum; csrc/kernels.h has the same as kMaxTerms
_EXACT = 1e-9  # how far a sum may be from a state, in any coordinate


class Ref(NamedTuple):
    """An array of a run: the state that evaluation `number` is for, what it gives, or what follows.

    "state", "velocity" and "difference" are those of `topos_rt.flow.sampling.Field`; "mixed" is the velocity
    where guidance is reused. The state after the last evaluation is the latent.
    """

    kind: str
    number: int


@dataclass(frozen=True)
class Sum:
    """target = sum of weight times array, over at most MAX_TERMS arrays."""

    target: Ref
    terms: tuple[tuple[Ref, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """One run of the network at time t, and the sums that follow it; the last of them makes the next state.

    guidance: w, where the network computes the guided velocity and the difference; None: the network under
    the condition alone.
    """

    t: float
    guidance: float | None
    sums: tuple[Sum, ...]


def flow_program(settings: SamplerSettings) -> tuple[Evaluation, ...]:
    """The run that `topos_rt.flow.sampling.sample` makes with these settings; the noise is state 0.

    Raises OptionError where guidance is still the model's own, or a state needs more than MAX_TERMS arrays.
    """
    trace = _Trace(1 + 2 * velocity_evaluations(settings.solver, settings.steps))
    velocity = guided(trace, settings)

    def watched(x: Array, t: float) -> Array:
        trace.states.append(x)
        trace.given.append(velocity(x, t))
        return trace.given[-1]

    for step in sample(watched, trace.new(Ref("state", 0)), settings):
        end = step.x_next
    trace.states.append(end)
    return tuple(
        Evaluation(t, w, (*trace.mixed(k), trace.next_state(k, settings.solver)))
        for k, (t, w) in enumerate(trace.calls)
    )


def weights_table(program: Sequence[Evaluation]) -> np.ndarray:
    """[sums, MAX_TERMS] float32 weights of all sums in their order, zero where one has fewer terms."""
    rows = [[weight for _, weight in total.terms] for evaluation in program for total in evaluation.sums]
    return np.array([row + [0.0] * (MAX_TERMS - len(row)) for row in rows], np.float32)


@dataclass(eq=False)
class _Trace:
    """A `Field` on coordinates."""

    size: int
    basis: list[Ref] = field(default_factory=list)  # what each coordinate belongs to
    calls: list[tuple[float, float | None]] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)  # the velocities that the solver was given

    def new(self, ref: Ref) -> Array:
        """A basis vector of its own for an array."""
        self.basis.append(ref)
        vector: Any = np.zeros(self.size)
        vector[len(self.basis) - 1] = 1.0
        return vector

    def conditional(self, x: Array, t: float) -> Array:
        self.calls.append((t, None))
        return self.new(Ref("velocity", len(self.calls) - 1))

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        self.calls.append((t, w))
        index = len(self.calls) - 1
        return self.new(Ref("velocity", index)), self.new(Ref("difference", index))

    def mixed(self, k: int) -> tuple[Sum, ...]:
        """What makes the velocity of evaluation k, where that is more than what the network gave."""
        places = np.flatnonzero(self.given[k])
        if len(places) == 1:
            return ()
        return (Sum(Ref("mixed", k), tuple((self.basis[i], float(self.given[k][i])) for i in places)),)

    def next_state(self, k: int, solver: str) -> Sum:
        """The state after evaluation k, from the last two states and the last three velocities."""
        near = [(Ref("state", j), self.states[j]) for j in (k, k - 1) if j >= 0]
        near += [(self._velocity(j), self.given[j]) for j in (k, k - 1, k - 2) if j >= 0]
        wanted = self.states[k + 1]
        for count in range(1, MAX_TERMS + 1):
            for chosen in itertools.combinations(near, count):
                columns = np.stack([vector for _, vector in chosen], 1)
                weights = np.linalg.lstsq(columns, wanted, rcond=None)[0]
                if np.abs(columns @ weights - wanted).max() <= _EXACT:
                    terms = zip((ref for ref, _ in chosen), weights.tolist(), strict=True)
                    return Sum(Ref("state", k + 1), tuple(terms))
        raise OptionError(
            "solver",
            got=f"{solver}, whose steps look back further",
            expected="steps that are sums of four arrays",
            fix="sample without a CUDA graph",
        )

    def _velocity(self, k: int) -> Ref:
        return Ref("mixed" if self.mixed(k) else "velocity", k)
