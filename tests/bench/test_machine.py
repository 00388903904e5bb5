"""The facts about the machine, and the parsing of nvidia-smi's answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from topos_rt.bench import machine

ANSWER = "NVIDIA H200, 580.159.03, P0, 1980, 3201, 1980, 312.45, 700.00, 41, 512"


def test_a_gpu() -> None:
    def ask(fields: str) -> str:
        return "0x0000000000000044" if fields == "clocks_event_reasons.active" else ANSWER

    assert machine.gpu_state(ask) == {
        "name": "NVIDIA H200",
        "driver": "580.159.03",
        "pstate": "P0",
        "sm_mhz": 1980.0,
        "memory_mhz": 3201.0,
        "max_sm_mhz": 1980.0,
        "power_w": 312.45,
        "power_limit_w": 700.0,
        "temperature_c": 41.0,
        "memory_used_mib": 512.0,
        "held_back_by": ["the power limit", "the temperature (hardware)"],
    }


def test_what_a_gpu_does_not_say() -> None:
    def ask(fields: str) -> str | None:
        old = {"clocks_throttle_reasons.active": "Not Supported"}
        return old.get(fields) if "reasons" in fields else ANSWER.replace("312.45", "[N/A]")

    state = machine.gpu_state(ask)
    assert state is not None and state["power_w"] is None and state["held_back_by"] == []


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.gpu_state() is None


def test_the_facts_name_nobody() -> None:
    told = repr(machine.facts())
    assert str(Path.home()) not in told and not re.search(r"'/\w", told)
    assert machine.facts()["packages"]["numpy"]


def test_the_peak_is_that_of_the_process_and_not_its_parents() -> None:
    block = bytearray(200 << 20)
    own = machine.peak_bytes()
    assert own is not None and own >= len(block)
    code = "from topos_rt.bench.machine import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 << 20
