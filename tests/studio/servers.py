"""`topos-rt studio` in a process of its own, for tests and measurements."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.error import URLError
from urllib.request import urlopen

_START_S = 120.0
_POLL_S = 0.1


@contextlib.contextmanager
def studio(*options: str) -> Iterator[str]:
    """Run `topos-rt studio` at a free port until the model is ready, and yield its address."""
    words = [sys.executable, "-m", "topos_rt", "studio", "--port", "0", "--no-browser", *options]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    told: list[str] = []
    try:
        for line in running.stdout:
            told.append(line)
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise RuntimeError(f"topos-rt studio did not start: {''.join(told)}")
        # Nobody else reads what it says from here on, and a full pipe would stop it.
        threading.Thread(target=running.stdout.read, daemon=True).start()
        _wait(f"{found[0]}/readyz")
        yield found[0]
    finally:
        running.terminate()
        running.wait(60)


def _wait(address: str) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        with contextlib.suppress(URLError), urlopen(address, timeout=30):
            return
        time.sleep(_POLL_S)
    raise RuntimeError(f"{address} was not ready within {_START_S:.0f} s")
