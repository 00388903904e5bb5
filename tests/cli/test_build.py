"""`topos-rt build`, with TensorRT-RTX's real builder on a small bundle."""

from __future__ import annotations

import dataclasses
import json
import weakref

import pytest

from tests import needs
from tests.tiny_bundle import write_tiny_bundle
from topos_rt.cli import build
from topos_rt.cli.console import Console
from topos_rt.cli.main import main
from topos_rt.faces.networks import LOOKED_WITH
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import GRAPHS, GRAPHS_AT_ONCE, Manifest

needs.module("tensorrt_rtx")

EVERY = (*GRAPHS, *LOOKED_WITH)  # the model's graphs, then the networks of the face stage


@pytest.fixture
def run(tiny_bundle, tmp_path, capfd):
    def run(*words, model=tiny_bundle, cache=tmp_path / "cache", backend="tensorrt-rtx", json_too=False):
        options = ["--model", str(model), "--cache", str(cache), "--backend", backend]
        code = main(["build", *options, *words] + ["--json"] * json_too)
        out, err = capfd.readouterr()
        return code, json.loads(out) if json_too else out.splitlines(), err.splitlines()

    return run


def test_all_engines_of_a_model(run, tmp_path):
    code, out, err = run()
    assert code == 0
    assert [line.split()[0] for line in out] == ["graph", *EVERY, "all"]
    assert all(line.endswith("built: not built before") for line in out[1:-1])
    assert len(err) == 1 and err[0].endswith(f", fp32, into {tmp_path / 'cache' / 'engines'}")
    assert len(list((tmp_path / "cache" / "engines").glob("*.plan"))) == len(EVERY)
    code, out, _ = run()
    assert code == 0
    assert all(line.endswith("nothing: in the cache") for line in out[1:-1])


def test_the_identity_network_is_built_for_a_model_that_takes_it(run, tmp_path):
    for names, last in ((("pose",), LOOKED_WITH[-1]), (("identity",), "face_identity")):
        model = tmp_path / names[0]
        model.mkdir()
        write_tiny_bundle(model, names)
        code, out, _ = run(model=model)
        assert code == 0 and out[-2].split()[0] == last


def test_what_makes_several_heads_at_once(run, tmp_path):
    model = tmp_path / "several"
    model.mkdir()
    write_tiny_bundle(model, at_once=True)
    code, out, _ = run("--batch", "8", model=model)
    more = [f"{graph} at once" for graph in GRAPHS_AT_ONCE]
    assert code == 0 and len(out) == 2 + len(EVERY) + len(more)
    assert all(line.startswith(name) for line, name in zip(out[-1 - len(more) : -1], more, strict=True))
    assert run("--batch", "8", model=model, json_too=True)[1]["graphs"][more[0]]["reason"] == "in the cache"


def test_json(run, tiny_bundle):
    _, first, _ = run(json_too=True)
    code, second, err = run(json_too=True)
    assert code == first["exit_code"] == 0
    assert (second["backend"], second["precision"], second["model"]) == ("tensorrt-rtx", "fp32", "tiny")
    assert second["version"].startswith("1.") and second["layers_from"] == "the parsed network"
    assert list(second["graphs"]) == list(EVERY)
    for graph, facts in second["graphs"].items():
        assert first["graphs"][graph]["built"] and not facts["built"]
        assert facts["layers"]["fp32"] == sum(facts["layers_by_kind"]["fp32"].values())
        assert set(facts["device_bytes"]) == {"weights", "activations", "inputs_outputs"}
    assert set(second["graphs"]["vae_decoder"]["fp32_products"].values()) == {"MATRIX_MULTIPLY"}
    assert second["bytes"] == sum(facts["bytes"] for facts in second["graphs"].values())
    assert len(err) > len(EVERY)  # the table


def test_one_plan_is_held_at_a_time(run, monkeypatch):
    """At the released size each plan takes a gigabyte."""
    plans, make = [], build._plan

    def watched(*arguments):
        assert not [plan for plan in plans if plan() is not None]
        made = make(*arguments)
        plans.append(weakref.ref(made))
        return made

    monkeypatch.setattr(build, "_plan", watched)
    assert run()[0] == 0 and len(plans) == len(EVERY)


def with_half_graphs(path):
    """Let the manifest list the bundle's graphs as its FP16 graphs too."""
    manifest = Manifest.from_json((path / "manifest.json").read_text())
    write_manifest(path, dataclasses.replace(manifest, graphs_fp16=manifest.graphs))
    return path


def test_precisions(run, own_bundle):
    with_half_graphs(own_bundle)
    assert Bundle.open(own_bundle).graph("dit_step", "fp16").is_file()
    assert run(model=own_bundle, json_too=True)[1]["precision"] == "fp16"
    _, told, _ = run("--precision", "fp32", model=own_bundle, json_too=True)
    assert told["precision"] == "fp32"
    reasons = {graph: facts["reason"] for graph, facts in told["graphs"].items()}
    assert {reasons[graph] for graph in GRAPHS} == {
        "built before, but in fp16, with keys, values in FP16 at its ends"
    }
    assert {reasons[name] for name in LOOKED_WITH} == {"in the cache"}  # always in FP32


def test_progress_rises_over_all_graphs(run, monkeypatch):
    told = []
    monkeypatch.setattr(Console, "progress", lambda self, *what: told.append(what))
    run()
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] < 0.1 and fractions[-1] == 1
    assert {label for _, label in told} == {f"building {graph}" for graph in EVERY}


def test_a_damaged_engine_is_told_of_and_built_anew(run, tmp_path):
    run()
    (plan,) = (tmp_path / "cache" / "engines").glob("dit_context-*.plan")
    plan.write_bytes(b"")
    code, out, err = run()
    assert code == 0
    warnings = [line for line in err if line.startswith("warning: ")]
    assert len(warnings) == 1 and "its plan has 0 bytes" in warnings[0] and "built anew" in warnings[0]
    built = [line.split()[0] for line in out if " built: " in line]
    assert built == ["dit_context"]


BAD = {
    "an unknown backend": (
        {"backend": "tensort"},
        (),
        "unknown backend that builds engines: got 'tensort'; expected one of: tensorrt-rtx, tensorrt; "
        "fix: did you mean 'tensorrt'?",
    ),
    "a backend without engines": ({"backend": "onnxruntime"}, (), "expected one of: tensorrt-rtx, tensorrt"),
    "an unknown precision": ({}, ("--precision", "int4"), "unknown precision: got 'int4'; expected one of"),
    "no such model": ({"model": "nowhere"}, (), "no such model: got 'nowhere'"),
    "a batch of another size": ({}, ("--batch", "3"), "batch: got 3; expected one of: 1, 2, 4, 8"),
    "a batch without graphs for it": ({}, ("--batch", "8"), "--batch: got 8 for a model that has no graphs"),
    "8 bits without FP16": ({}, ("--precision", "int8"), "FP16 graphs of the bundle: got none"),
    "a model without FP16": ({}, ("--precision", "fp16"), "FP16 graphs of the bundle: got none"),
    "a cache that cannot be": (
        {"cache": "/dev/null"},
        (),
        "cannot write to the engine cache /dev/null/engines",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_line(run, case):
    keywords, words, message = BAD[case]
    code, out, err = run(*words, **keywords)
    assert (code, out) == (2, [])
    assert err[-1].startswith("topos-rt: error: ") and message in err[-1]
    assert len([line for line in err if "error" in line]) == 1


def test_a_backend_must_be_named(capfd):
    assert main(["build"]) == 2
    assert "--backend" in capfd.readouterr().err


def test_full_tensorrt_says_what_it_lacks(run):
    code, _, err = run(backend="tensorrt")
    needs.machine(code != 0, "TensorRT works here")
    assert code == 2
    assert "pip install 'topos-rt[tensorrt]'" in err[-1] or "needs an NVIDIA GPU" in err[-1]
