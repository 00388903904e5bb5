"""Skip a test where the machine lacks what it needs. Nothing else in tests/ may skip: see test_needs.py.

A tool or a package that can be installed skips the test where it is missing, and fails it in CI
(CI=true), which has to have all of them. What the machine is, such as one with a GPU, only skips.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import platformdirs
import pytest
from filelock import FileLock

from topos_rt.errors import BackendError
from topos_rt.gpu import cuda, ops

JS = Path(__file__).parent / "js"
Found = TypeVar("Found")


def in_ci() -> bool:
    """Return whether this is a run in CI, where everything that can be installed is."""
    return os.environ.get("CI") == "true"


def tool(what: str, found: Found | None, fix: str) -> Found:
    """Return what was found of a tool; where that is nothing, skip the test, or fail it in CI."""
    if not found:
        _missing(f"{what} was not found; fix: {fix}")
    return found


def module(name: str) -> Any:
    """Import a module, one of ours included, whose packages the extra `test` has."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        _missing(f"no module {error.name}; fix: pip install -c constraints.txt -e '.[test]'")


def nvcc() -> str:
    """Return the path of CUDA's compiler."""
    return tool("nvcc", shutil.which("nvcc"), "install the CUDA Toolkit 13.0 and put its bin/ on PATH")


def compiler() -> str:
    """Return the path of a C++ compiler; $CXX names one."""
    found = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    return tool("a C++ compiler", found, "install g++ or clang++")


def node_package(name: str) -> str:
    """Return the path of Node.js, which has the package `name`."""
    node = tool("Node.js", shutil.which("node"), "install Node.js and npm")
    tool(f"the npm package {name}", (JS / "node_modules" / name).is_dir(), "run `npm ci` in tests/js")
    return node


def packages(*fetches: str) -> Path:
    """Return a directory with the archives that these commands fetch by name; they are fetched once for good.

    fetches: commands that leave one archive in the working directory, such as "npm pack NAME@VERSION".
    """
    directory = Path(platformdirs.user_cache_dir("topos_rt-tests"), "packages")
    directory.mkdir(parents=True, exist_ok=True)
    for fetch in fetches:
        done = directory / f"{re.sub(r'[^A-Za-z0-9]+', '-', fetch)}.done"
        with FileLock(f"{done}.lock"):
            if done.exists():
                continue
            words = fetch.split()
            words[:1] = [sys.executable, "-m", "pip"] if words[0] == "pip" else words[:1]
            try:
                subprocess.run(words, cwd=directory, check=True, capture_output=True, timeout=600)
            except (OSError, subprocess.SubprocessError) as error:
                _missing(
                    f"'{fetch}' failed ({type(error).__name__}); fix: run it where the registry is reached"
                )
            done.touch()
    return directory


def machine(fits: object, reason: str) -> None:
    """Skip the test, in CI too, on a machine that it is not for."""
    if not fits:
        pytest.skip(reason, allow_module_level=True)


def gpu() -> None:
    """Skip the test, in CI too, where our kernels have no GPU to run on."""
    try:
        ops.kernels()
        machine(cuda.device_count(), "no NVIDIA GPU")
    except (ImportError, BackendError, cuda.CudaError) as error:
        machine(False, str(error))


def makehuman() -> Path:
    """Return the folder of MakeHuman's assets that $TOPOS_RT_MAKEHUMAN names; skip without it or `anny`."""
    folder = os.environ.get("TOPOS_RT_MAKEHUMAN", "")
    machine(Path(folder, "skins").is_dir(), "TOPOS_RT_MAKEHUMAN names no folder with MakeHuman's skins/")
    machine(importlib.util.find_spec("anny"), "no anny; fix: pip install -c constraints.txt -e '.[training]'")
    return Path(folder)


def _missing(reason: str) -> NoReturn:
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
