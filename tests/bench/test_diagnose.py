"""Every line of the diagnosis appears where it should, and nowhere else."""

from __future__ import annotations

import pytest

from tests.bench.results import Change, made, put
from topos_rt.bench.diagnose import RULES, diagnose
from topos_rt.bench.stats import summary

CASES: dict[str, tuple[Change, str, str]] = {
    "enqueuing": (put("graphs", "dit_step", "enqMs", value=summary([8.0])), "enqueue-bound", "dit_step 89%"),
    "spread": (put("stages", "head", value=summary([90.0, 110.0])), "unstable", "vary by 14.1%"),
    "throttled": (put("device", "after", "held_back_by", value=["the power limit"]), "thermal", "by the pow"),
    "clocks": (put("device", "after", "sm_mhz", value=1500.0), "thermal", "from 2000 to 1500 MHz, at 60 °C"),
    "host": (put("graphs", "dit_step", "latencyMs", value=summary([2.0])), "cpu-bound", "80% of a head"),
    "others": (put("machine", "load_average_before", value=3.0), "busy", "3.0 processes wanted one of 8"),
    "cold": (put("protocol", "warm_up", value={"runs": 10, "steady": False}), "not-warm", "after 10 runs"),
}


def test_a_sound_measurement_has_no_remarks() -> None:
    assert diagnose(made()) == []


@pytest.mark.parametrize("case", CASES)
def test_one_thing_is_wrong(case: str) -> None:
    change, kind, words = CASES[case]
    result = made()
    change(result)
    (line,) = diagnose(result)
    assert line["kind"] == kind and words in line["what"] and line["fix"]


def test_a_gpu_that_does_not_tell_its_temperature() -> None:
    result = made()
    put("device", "after", "sm_mhz", value=1500.0)(result)
    put("device", "after", "temperature_c", value=None)(result)
    assert [line["what"] for line in diagnose(result)] == ["the GPU's clock fell from 2000 to 1500 MHz"]


def test_every_rule_is_tested() -> None:
    assert {kind for _, kind, _ in CASES.values()} == set(RULES)


def test_on_a_cpu_nothing_is_enqueued_and_no_clock_is_known() -> None:
    result = made()
    for name in ("before", "after"):
        result["device"][name] = None
    result["graphs"]["dit_step"] |= {"enqMs": None, "latencyMs": summary([1.0])}
    result["machine"]["load_average_before"] = None
    assert diagnose(result) == []


def test_graphs_alone_are_judged_one_by_one() -> None:
    result = made() | {"stages": {}}
    result["graphs"]["dit_step"]["computeMs"] = summary([8.0, 10.0])
    (line,) = diagnose(result)
    assert line["what"].startswith("unstable: the times of dit_step vary by 15.7%")
