"""A run of the sampler as a list of weighted sums, for `topos_rt.gpu.ops.flow_step`.

With every solver, and with guidance, its interval and its reuse, each state is a weighted sum of the noise
and the velocities, and the weights depend on the settings alone. One run on coordinate vectors, in which each
velocity is a new basis vector, therefore yields all the weights. In this way every solver in
`topos_rt.flow.solvers.SOLVERS` becomes a program that a GPU can run without the host.
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

MAX_TERMS = 4  # arrays in one sum; csrc/kernels.h has the same as kMaxTerms
_EXACT = 1e-9  # largest error of a sum, in any coordinate


class Ref(NamedTuple):
    """The name of an array in a run: its kind, and the number of its evaluation.

    "state" is the input of the evaluation; "velocity" and "difference" are its outputs, as in
    `topos_rt.flow.sampling.Field`; "mixed" is the velocity where guidance is reused. The state after the last
    evaluation is the latent.
    """

    kind: str
    number: int


@dataclass(frozen=True)
class Sum:
    """An assignment: target = the sum of weight times array, over at most MAX_TERMS arrays."""

    target: Ref
    terms: tuple[tuple[Ref, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """One run of the network at time t, and the sums that follow it; the last of them makes the next state.

    guidance: w where the network computes the guided velocity and the difference; None where it runs under
    the condition alone.
    """

    t: float
    guidance: float | None
    sums: tuple[Sum, ...]


def flow_program(settings: SamplerSettings) -> tuple[Evaluation, ...]:
    """Return the run that `topos_rt.flow.sampling.sample` makes with these settings; the noise is state 0.

    Raises OptionError where the guidance is None, the model's own, or a state needs more than MAX_TERMS
    arrays.
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
    """Return the weights of all sums in order, [sums, MAX_TERMS] float32, padded with zeros."""
    rows = [[weight for _, weight in total.terms] for evaluation in program for total in evaluation.sums]
    return np.array([row + [0.0] * (MAX_TERMS - len(row)) for row in rows], np.float32)


@dataclass(eq=False)
class _Trace:
    """A `Field` on coordinate vectors, which records its calls."""

    size: int
    basis: list[Ref] = field(default_factory=list)  # the array of each coordinate
    calls: list[tuple[float, float | None]] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)  # the velocities that the solver received

    def new(self, ref: Ref) -> Array:
        """Return a new basis vector for an array."""
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
        """Return the sum that makes the velocity of evaluation k; none where it is the network's output."""
        places = np.flatnonzero(self.given[k])
        if len(places) == 1:
            return ()
        return (Sum(Ref("mixed", k), tuple((self.basis[i], float(self.given[k][i])) for i in places)),)

    def next_state(self, k: int, solver: str) -> Sum:
        """Return the state after evaluation k as a sum of the last two states and last three velocities."""
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
