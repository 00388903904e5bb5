"""What is read of a profiler's report; the profiler itself needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import profile_ops
from topos_rt.errors import OptionError

HEAD = '"Address","Source","# Samples","stall_wait","stall_barrier","stall_wait (Not Issued)"'


def launch(*instructions: tuple[str, int, int, int]) -> list[str]:
    rows = [
        f'"0x{n:x}","  {text}","{samples}","{wait}","{barrier}","9"'
        for n, (text, samples, wait, barrier) in enumerate(instructions)
    ]
    return ['"Kernel Name","void topos::kernel<Body<(int)256, (int)1>>(T1)",', HEAD, *rows]


FIRST = launch(
    ("LDC R1, c[0x0]", 10, 10, 0), ("@P0 HMMA.16816.F32 R4, R8", 0, 0, 0),
    ("HGMMA.64x256x16.F32 R24", 20, 5, 15),
    ("FADD R1, R2", 5, 0, 5), ("@!P2  HGMMA.64x256x16.F32 R24", 5, 5, 0), ("EXIT", 60, 20, 40),
)  # fmt: skip
SECOND = launch(("LDS R1, [R2]", 1, 1, 0), ("HMMA.16816.F32 R4", 1, 0, 0), ("EXIT", 2, 0, 2))


def test_samples_are_divided_at_the_products() -> None:
    one, two = (profile_ops.parts(rows) for rows in profile_ops.kernels([*FIRST, *FIRST, *SECOND]))
    assert (one["instructions"], one["samples"], two["samples"]) == (6, 100, 4)
    assert one["parts"] == {
        "before": {"instructions": 2, "share": 0.1, "waits": {"wait": 1.0}},
        "products": {"instructions": 3, "share": 0.3, "waits": {"barrier": 20 / 30, "wait": 10 / 30}},
        "behind": {"instructions": 1, "share": 0.6, "waits": {"barrier": 40 / 60, "wait": 20 / 60}},
    }
    assert [part["instructions"] for part in two["parts"].values()] == [1, 1, 1]


def test_without_a_profiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match=r"got no ncu on the PATH; expected Nsight Compute"):
        profile_ops.profile("mini", ["header"])
    failing = tmp_path / "ncu"
    failing.write_text("#!/bin/sh\necho no permission; exit 1\n")
    failing.chmod(0o755)
    with pytest.raises(OptionError, match="ncu: got no permission; expected a report"):
        profile_ops.profile("mini", ["header"])
