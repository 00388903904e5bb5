"""Facts about the machine of a measurement, and the state it was in."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from topos_rt import __version__
from topos_rt.support.machine import nvidia_smi, usable_cores

Query: TypeAlias = Callable[[str], "str | None"]  # fields of nvidia-smi -> the first GPU's values

PACKAGES = ("numpy", "onnxruntime", "pillow", "tensorrt-rtx", "tensorrt", "cuda-bindings")
# Variables that change what is measured.
FLAGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
         "CUDA_MODULE_LOADING", "CUDA_LAUNCH_BLOCKING", "CUDA_CACHE_DISABLE")  # fmt: skip
# As Linux calls them: what networks and passes on the CPU are compiled for. The last two are ARM's.
INSTRUCTION_SETS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16",
                    "amx_bf16", "amx_int8", "asimd", "sve")  # fmt: skip
# nvidia-smi's name -> ours; all values are numbers except those in _TEXTS.
_GPU = {
    "name": "name", "driver_version": "driver", "pstate": "pstate", "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz", "clocks.max.sm": "max_sm_mhz", "power.draw": "power_w",
    "power.limit": "power_limit_w", "temperature.gpu": "temperature_c", "memory.used": "memory_used_mib",
}  # fmt: skip
_TEXTS = ("name", "driver", "pstate")
# The newer and the older name of the same bits, which are NVML's nvmlClocksEventReasons.
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
REASONS = {
    0x4: "the power limit", 0x8: "a hardware slowdown", 0x20: "the temperature (software)",
    0x40: "the temperature (hardware)", 0x80: "the power brake",
}  # fmt: skip


def facts() -> dict[str, Any]:
    """Return what does not change during a measurement, without paths or the names of machine and user."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cpu_family": _cpu_family(),
        "instruction_sets": _instruction_sets(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "topos_rt": __version__,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


def load_average() -> float | None:
    """Return the load average of the last minute; None where the system does not have one."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def peak_bytes() -> int | None:
    """Return this process's peak memory in bytes; None where it is not known."""
    if match := re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE):
        return 1024 * int(match[1])
    # ru_maxrss is the fallback: on Linux a child inherits its parent's value.
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def gpu_state(query: Query | None = None) -> dict[str, Any] | None:
    """Return the first GPU's name, clocks, power, temperature and clock limits; None without a GPU."""
    ask = query or _first_gpu
    answer = ask(",".join(_GPU))
    if answer is None:
        return None
    state: dict[str, Any] = {}
    for name, text in zip(_GPU.values(), answer.split(","), strict=False):
        state[name] = text.strip() if name in _TEXTS else _number(text)
    bits = next((found for name in _REASONS if (found := ask(name)) is not None), None)
    state["held_back_by"] = _reasons(bits or "0")
    return state


def device_memory() -> Mapping[str, int] | None:
    """Return the free bytes of the current GPU; None without a GPU."""
    from topos_rt.gpu import cuda

    try:
        return {"free_bytes": cuda.free_bytes()}
    except (ImportError, AttributeError, cuda.CudaError):
        return None


def _reasons(bits: str) -> list[str]:
    try:
        value = int(bits.strip(), 16)
    except ValueError:
        return []
    return [meaning for bit, meaning in REASONS.items() if value & bit]


def _first_gpu(fields: str) -> str | None:
    try:
        return next(iter(nvidia_smi(fields, "nounits")), None)
    except (OSError, subprocess.SubprocessError):
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]"


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cpu_family() -> str:
    """Return what tells processors of one name apart, such as "GenuineIntel 6-143"; "" where unknown."""
    text = _read("/proc/cpuinfo")
    found = [
        re.search(rf"^{key}\s*:\s*(\S+)$", text, re.MULTILINE) for key in ("vendor_id", "cpu family", "model")
    ]
    vendor, family, model = (match[1] if match else "" for match in found)
    return f"{vendor} {family}-{model}" if vendor else ""


def _instruction_sets() -> list[str]:
    """Return those of INSTRUCTION_SETS that the processor has; on systems other than Linux none is known."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    has = set(match[1].split()) if match else set()
    return [name for name in INSTRUCTION_SETS if name in has]


def _memory_bytes() -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return 1024 * int(match[1]) if match else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
