"""The loop that makes a map: the sampler's program, run on arrays that stay where they are computed.

Guidance is the release's: the negative branch sees its own prompt and a black picture, and the guided
velocity is scaled, token by token, to the length of the conditional one. To the sampler that is a velocity
like any other, so every solver of `topos_rt.flow.solvers` and all its settings apply. On a GPU the latent,
the velocities and both streams of the transformer stay there from the noise to the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from topos_rt.engines.contract import Value
from topos_rt.flow.program import Evaluation, Ref
from topos_rt.texture.official.networks import Branch, TextureNetworks


@dataclass(frozen=True, eq=False)
class GuidedField:
    """The transformer bound to a portrait."""

    networks: TextureNetworks
    positive: Branch
    negative: Branch

    def velocity(self, latent: Value, evaluation: Evaluation) -> dict[str, Value]:
        """Return the velocity of one evaluation and, with guidance, the difference that it made over w."""
        conditional = self.networks.velocity(latent, evaluation.t, self.positive)
        if evaluation.guidance is None:
            return {"velocity": conditional}
        unconditional = self.networks.velocity(latent, evaluation.t, self.negative)
        guided, difference = self.networks.guide(conditional, unconditional, evaluation.guidance)
        return {"velocity": guided, "difference": difference}


def run(field: GuidedField, program: Sequence[Evaluation], start: Value) -> Iterator[Value]:
    """Yield the latent after each evaluation of a program, from the noise `start` [1,N,C]."""
    last = _last_uses(program)
    arrays: dict[Ref, Value] = {Ref("state", 0): start}
    for k, evaluation in enumerate(program):
        made = field.velocity(arrays[Ref("state", k)], evaluation)
        arrays |= {Ref(kind, k): array for kind, array in made.items()}
        for total in evaluation.sums:
            terms = [(arrays[ref], weight) for ref, weight in total.terms]
            arrays[total.target] = field.networks.advance(terms)
        yield arrays[Ref("state", k + 1)]
        # Memory on the GPU is reused once nobody holds an array.
        arrays = {ref: array for ref, array in arrays.items() if last.get(ref, -1) > k}


def _last_uses(program: Sequence[Evaluation]) -> dict[Ref, int]:
    """Return the evaluation at which each array is used last."""
    last: dict[Ref, int] = {}
    for k, evaluation in enumerate(program):
        last[Ref("state", k)] = k
        for total in evaluation.sums:
            last |= {ref: k for ref, _ in total.terms}
    return last
