"""Facts about this machine, found with the standard library alone: `topos-rt doctor` needs nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

_SMI_TIMEOUT_S = 15
_BLOCK = 1 << 20
_CPUINFO = 1 << 14  # bytes that hold the first core, of which servers have hundreds
# The lines of x86 and of ARM.
_KIND = (
    "vendor_id",
    "cpu family",
    "model",
    "flags",
    "CPU implementer",
    "CPU part",
    "CPU variant",
    "Features",
)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_kind() -> str:
    """Return what tells kinds of processors apart by what they can run, or "" where that is not known.

    That is the part of /proc/cpuinfo about the first core, without what differs from core to core.
    """
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(_CPUINFO).decode("latin-1").partition("\n\n")[0]
    except OSError:
        return ""
    rows = (line.partition(":") for line in first.splitlines())
    told = {name.strip(): " ".join(value.split()) for name, _, value in rows}
    return "; ".join(f"{name}: {told[name]}" for name in _KIND if name in told)


def nvidia_smi(fields: str, *options: str) -> list[str]:
    """Return one line per GPU, with the values of the comma-separated `fields` of `nvidia-smi`.

    options: what to add to its format, such as "nounits".

    Raises OSError where the program is missing, subprocess.SubprocessError where it fails or hangs.
    """
    words = ["nvidia-smi", f"--query-gpu={fields}", f"--format={','.join(('csv', 'noheader', *options))}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True)
    return [line for line in done.stdout.splitlines() if line.strip()]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hex digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
