"""The timings of kernels on the CPU: what fails loses nothing, and what is done is kept at once."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from benchmarks import op_timings
from topos_rt.gpu.device_array import DeviceArray


def test_what_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Any, vae: Any, steps: Any, ceilings: Any, keep: Any) -> None:
        keep({"us": {"ours": {"p50": 1.0}}})
        keep({"us": {"ours": {"p50": 1.0}, "theirs": op_timings._told("theirs", lambda: {"p50": 1 / 0})}})

    def sound(bench: Any, vae: Any, steps: Any, ceilings: Any, keep: Any) -> None:
        keep({"p50": ceilings.tflops})

    monkeypatch.setattr(op_timings, "_OPS", {"broken": broken, "sound": sound})
    kept: list[dict[str, Any]] = []
    nothing: Any = None
    result = op_timings.measure(
        nothing,
        nothing,
        ["broken", "sound"],
        op_timings.Bench(rehearse=True, runs=2),
        lambda found: kept.append(copy.deepcopy(found)),
    )
    found = [[name for name in ("broken", "sound") if name in k] for k in kept]
    assert found == [["broken"], ["broken"], ["broken", "sound"]]
    assert kept[0]["broken"] == {"us": {"ours": {"p50": 1.0}}} and kept[0]["ceilings"]["tbytes"] > 0
    assert result["sound"]["p50"] > 0
    assert op_timings.failures(result) == ["broken us theirs: ZeroDivisionError: division by zero"]
    assert op_timings.failures(kept[0]) == []


def test_times_of_the_host() -> None:
    bench, calls = op_timings.Bench(rehearse=True, runs=5), []
    row = bench.time(lambda: calls.append(1))
    assert len(calls) == 10 and row["n"] == 5 and 0 <= row["min"] <= row["p50"] <= row["p99"]


def test_a_devices_array_is_not_read_by_numpy() -> None:
    """So the timings look at the array that they gave, not at what an op returns."""
    with pytest.raises(TypeError):
        np.asarray(DeviceArray(256, (2, 2), np.dtype(np.float16), 0), np.float64)
