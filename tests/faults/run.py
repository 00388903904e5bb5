"""Kill processes that write, at random moments: `python -m tests.faults.run [--kills 1000] [--json FILE]`.

After each kill everything on the disk must be whole, the old or the new. A run that was interrupted goes on
where its JSON says it was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.scenarios import SCENARIOS
from topos_rt import __version__
from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[2]
_ENDS_WITHIN_S = 300
_LATEST_S = 1.5  # after it has begun; imports and a first round take most of it


def heed_signals() -> None:
    """Take back what the parent ignores: a shell's background jobs ignore SIGINT, and nohup's SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def last_words(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process that was told to end, and return its stderr.

    Raises AssertionError where it does not end: it is killed then, so that no test waits for ever.
    """
    try:
        return process.communicate(timeout=_ENDS_WITHIN_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it did not end within {_ENDS_WITHIN_S} s of its signal") from None


def kill_one(name: str, directory: Path, after: float, number: signal.Signals = signal.SIGKILL) -> int:
    """Start a process that writes, end it some seconds after it has begun, and check what is there.

    Returns its exit code. Raises AssertionError where anything is half-written.
    """
    words = [sys.executable, "-m", "tests.faults.scenarios", name, str(directory)]
    environment = os.environ | {"TOPOS_RT_CACHE_KEY": str(directory / "key")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, text=True, preexec_fn=heed_signals, **streams
    ) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        time.sleep(after)
        process.send_signal(number)
        told = last_words(process)
    assert "Traceback" not in told or number != signal.SIGKILL, told[-2000:]
    before = os.environ.get("TOPOS_RT_CACHE_KEY")
    os.environ["TOPOS_RT_CACHE_KEY"] = environment["TOPOS_RT_CACHE_KEY"]
    try:
        SCENARIOS[name].check(directory)
    finally:
        if before is None:
            del os.environ["TOPOS_RT_CACHE_KEY"]
        else:
            os.environ["TOPOS_RT_CACHE_KEY"] = before
    return int(process.returncode)


def run(kills: int, path: Path) -> int:
    """Kill `kills` times in all, the scenarios in turns. Return the exit code."""
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if state.get("kills_wanted") != kills:
        state = {"topos_rt": __version__, "model": None, "kills_wanted": kills, "kills": 0}
        state |= {"half_written": [], "scenarios": dict.fromkeys(SCENARIOS, 0)}
    names = list(SCENARIOS)
    with tempfile.TemporaryDirectory() as top:
        for name, scenario in SCENARIOS.items():
            place = Path(top, name)
            place.mkdir()
            scenario.prepare(place)
        while state["kills"] < kills:
            name = names[state["kills"] % len(names)]
            after = float(np.random.default_rng(state["kills"]).uniform(0, _LATEST_S))
            try:
                code = kill_one(name, Path(top, name), after)
                assert code == -signal.SIGKILL, f"it ended by itself with {code}"
            except AssertionError as error:
                state["half_written"].append({"scenario": name, "after_s": after, "told": str(error)[:500]})
            state["kills"] += 1
            state["scenarios"][name] += 1
            if state["kills"] % 20 == 0 or state["kills"] == kills:
                write_atomic(path, (json.dumps(state, indent=1) + "\n").encode(), parents=True)
                print(
                    f"{state['kills']:,} of {kills:,}, {len(state['half_written'])} half-written", flush=True
                )
    return 1 if state["half_written"] else 0


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/kills.json"))
    arguments = parser.parse_args()
    return run(arguments.kills, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
