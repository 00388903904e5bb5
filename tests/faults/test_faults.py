"""Kills, signals, full disks, tight limits, clocks, no home: nothing is half-written, nothing is raw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from tests.faults.run import ROOT, heed_signals, kill_one, last_words
from tests.faults.scenarios import SCENARIOS
from tests.sample_pictures import RGB, encode
from topos_rt.engines.cache import BuildReport, EngineCache, EngineKey, Found

KILLS = 8  # of each scenario; `make faults` does more

needs.machine(hasattr(signal, "SIGKILL"), "this system has no signals")


@pytest.mark.parametrize("name", SCENARIOS)
def test_kill_9_at_random_moments(name: str, tmp_path: Path) -> None:
    SCENARIOS[name].prepare(tmp_path)
    moments = np.random.default_rng(len(name)).uniform(0, 1.5, KILLS)
    assert [kill_one(name, tmp_path, after) for after in moments] == [-signal.SIGKILL] * KILLS


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_signals_leave_nothing_behind(number: str, code: int, tmp_path: Path) -> None:
    """The command ends with the shell's code for the signal, and its temporary files are gone."""
    SCENARIOS["heads"].prepare(tmp_path)
    for after in (0.3, 1.0):
        found = kill_one("heads", tmp_path, after, getattr(signal, number))
        # Outside of `main`, between two commands of the scenario, Python's own ends apply.
        assert found in (code, 1, -getattr(signal, number))
        if found == code:
            assert not list(tmp_path.rglob(".topos-rt-*.tmp"))


def command(
    words: list[str], prefix: str, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run topos-rt below a shell that first does `prefix`."""
    script = f'{prefix}\nexec "$0" -m topos_rt "$@"'
    # No bytecode: a limit on the size of files would cut it off, and Python would keep that.
    kept = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TOPOS_RT_CACHE_KEY": str(directory / "key"),
        "TOPOS_RT_CACHE": str(directory / "cache"),
    }
    return subprocess.run(
        ["sh", "-c", script, sys.executable, *words],
        capture_output=True, text=True, check=False, cwd=directory, env=kept | environment, timeout=300,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, tiny_bundle: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encode(RGB, "PNG"))
    (tmp_path / "model").symlink_to(tiny_bundle)
    return tmp_path


MAKE = ["generate", "a.png", "--model", "model", "--threads", "1", "-o", "h.glb", "--no-face-check"]
LIMITS: dict[str, tuple[str, tuple[int, ...]]] = {
    "a full disk": ("ulimit -f 1; trap '' XFSZ", (2,)),
    "few open files": ("ulimit -n 16", (0, 1, 2)),
    "hardly any open files": ("ulimit -n 5", (0, 1, 2)),
    "little memory": ("ulimit -v 300000", (1, 2)),
    "some memory": ("ulimit -v 1500000", (0, 1, 2)),
    "no core": ("ulimit -c 0", (0,)),
}


@pytest.mark.parametrize("case", LIMITS)
def test_tight_limits_end_in_one_line(case: str, here: Path) -> None:
    prefix, codes = LIMITS[case]
    done = command(MAKE, prefix, here, OPENBLAS_NUM_THREADS="1")
    if done.returncode in codes:
        assert done.returncode == 0 or done.stderr.count("\n") == 1, done.stderr
        assert (here / "h.glb").exists() == (done.returncode == 0)
    else:  # Python itself, or a library as it is imported, may fail before anything of ours runs
        assert "topos_rt" not in done.stderr.rpartition("Traceback")[2], done.stderr
        assert case in ("hardly any open files", "few open files", "little memory")
    assert not list(here.glob(".topos-rt-*"))


def test_a_full_disk_keeps_the_old_file(here: Path) -> None:
    (here / "h.glb").write_bytes(b"old")
    done = command(MAKE, "ulimit -f 1; trap '' XFSZ", here)
    assert done.returncode == 2 and "cannot write h.glb: got File too large" in done.stderr
    assert (here / "h.glb").read_bytes() == b"old"


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/nonexistent"}])
def test_no_home(environment: dict[str, str], here: Path) -> None:
    done = command(MAKE, "unset HOME" if not environment else ":", here, **environment)
    assert done.returncode == 0 and not (here / "~").exists()
    done = command(["doctor", "--json"], "unset HOME" if not environment else ":", here, **environment)
    assert "Traceback" not in done.stderr and json.loads(done.stdout)["auto"]["backend"]
    assert not (here / "~").exists()


def test_a_directory_that_is_read_only(here: Path) -> None:
    needs.machine(os.geteuid() != 0, "root may write anywhere")
    (here / "out").mkdir(0o555)
    done = command([*MAKE[:-1], "out/h.glb"], ":", here)
    assert done.returncode == 2 and "no permission to write" in done.stderr and done.stderr.count("\n") == 1


def test_a_working_directory_that_is_removed(here: Path) -> None:
    done = command(["info", "model"], "mkdir gone && cd gone && rmdir ../gone", here)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache orders entries by time; a clock that was set back must not lose or mix any."""
    clock = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((1980, 1, 1, 0, 0, 0, 0, 1, 0)))
    cache = EngineCache(tmp_path)
    keys = [EngineKey(f"g{i}.onnx", f"{i}" * 64, {}, "b", "1", "8.9", "fp16", 1) for i in range(5)]
    for number, key in enumerate(keys):
        cache.store(key, bytes([number]) * 100, BuildReport(1.0, {}, {}, {}))
    for number, key in enumerate(keys):
        found = cache.find(key)
        assert isinstance(found, Found) and found.plan == bytes([number]) * 100


def test_signals_that_interrupt_system_calls(tmp_path: Path) -> None:
    """EINTR: a timer rings through every write, and all are whole."""
    script = """
import signal, sys
from pathlib import Path
from tests.faults import scenarios
from topos_rt.support.files import write_atomic
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
for n in range(60):
    write_atomic(Path(sys.argv[1]) / "a" / str(n % 3), scenarios._block(n), parents=True)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    SCENARIOS["files"].check(tmp_path)
    assert sorted(os.listdir(tmp_path / "a")) == ["0", "1", "2"]


def test_ctrl_c_ends_topos_rt_build(tmp_path: Path) -> None:
    needs.module("tensorrt_rtx")
    words = [sys.executable, "-m", "topos_rt", "build", "--backend", "tensorrt-rtx", "--cache", str(tmp_path)]
    environment = os.environ | {"TOPOS_RT_CACHE_KEY": str(tmp_path / "key")}
    for after in (2.0, 3.5):
        with subprocess.Popen(
            words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed_signals
        ) as process:
            time.sleep(after)
            process.send_signal(signal.SIGINT)
            told = last_words(process)
        assert process.returncode in (130, 0, -signal.SIGINT), told  # 0: it was done; negative: not yet begun
        assert "Traceback" not in told or process.returncode == -signal.SIGINT
