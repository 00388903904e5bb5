"""The work of a head, against sums done by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests import tiny_bundle as tiny
from topos_rt.bench.work import evaluations, io_bytes, model_digest, runs_per_head
from topos_rt.flow.settings import SamplerSettings
from topos_rt.model.bundle import Bundle, write_manifest

CASES = {
    "no guidance": (SamplerSettings(steps=5, guidance=0.0), (5, 0, 5)),
    "guided": (SamplerSettings(steps=5, guidance=3.0), (0, 5, 10)),
    # Euler's times 1, .8, .6, .4, .2: guidance acts at .6, .4
    "in an interval": (SamplerSettings(steps=5, guidance=3.0, interval=(0.3, 0.7)), (3, 2, 7)),
    "every second": (SamplerSettings(steps=5, guidance=3.0, reuse=2), (2, 3, 8)),
    "two evaluations a step": (SamplerSettings(steps=5, guidance=0.0, solver="heun"), (9, 0, 9)),
}


@pytest.mark.parametrize("case", CASES)
def test_evaluations(case: str) -> None:
    settings, (unguided, guided, passes) = CASES[case]
    assert evaluations(settings) == {"guided": guided, "unguided": unguided, "passes": passes}
    assert runs_per_head(settings) == {
        "image_encoder": 1,
        "dit_modulation": 0,
        "dit_context": 1,
        "dit_step": unguided,
        "dit_step_guided": guided,
        "vae_decoder": 1,
        "vae_encoder": 0,
    }


def test_a_pull_decodes_every_estimate() -> None:
    pulled = SamplerSettings(steps=5, guidance=3.0, interval=(0.3, 0.7), landmark_pull=1.0)
    assert runs_per_head(pulled)["vae_decoder"] == 6


def test_flops_of_a_head() -> None:
    flops = tiny.flops()
    runs = runs_per_head(SamplerSettings(steps=7, guidance=1.5))
    expected = flops["image_encoder"] + flops["dit_context"] + flops["vae_decoder"]
    assert (
        sum(count * flops[graph] for graph, count in runs.items()) == expected + 7 * flops["dit_step_guided"]
    )


def test_bytes_of_a_run() -> None:
    assert io_bytes(tiny.engines()["vae_decoder"]) == 4 * (tiny.N * tiny.D + tiny.V * 6)


def test_the_digest_is_that_of_the_model(own_bundle: Path) -> None:
    before = model_digest(Bundle.open(own_bundle))
    (own_bundle / "CARD.md").write_text("a text")
    (own_bundle / "landmarks.safetensors").write_bytes(b"another map")
    (own_bundle / "response.safetensors").write_bytes(b"a response")
    manifest = dataclasses.replace(tiny.manifest(), landmark_response="response.safetensors")
    write_manifest(own_bundle, manifest)
    assert model_digest(Bundle.open(own_bundle)) == before
    (own_bundle / "dit_step.onnx").write_bytes((own_bundle / "dit_step_guided.onnx").read_bytes())
    write_manifest(own_bundle, manifest)
    assert model_digest(Bundle.open(own_bundle)) != before
