"""Releases of ONNX Runtime, from PyPI and npm, fetched by name."""

from __future__ import annotations

import platform
import shutil
import tarfile
import zipfile
from pathlib import Path

from tests import needs


def python_package(version: str, folder: Path) -> Path:
    """Unpack PyPI's package `onnxruntime` into a folder, and return its library."""
    archives = needs.packages(f"pip download --quiet --no-deps --only-binary :all: onnxruntime=={version}")
    wheels = sorted(archives.glob(f"onnxruntime-{version}-*.whl"))
    needs.machine(wheels, f"no wheel of onnxruntime {version}")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(folder)
    (library,) = folder.glob("onnxruntime/capi/libonnxruntime.so*")
    return library


def node_library(version: str, name: str, folder: Path) -> Path:
    """Return a library of npm's package `onnxruntime-node`, such as "linux/x64/libonnxruntime.so.1"."""
    needs.machine(platform.machine() == "x86_64", "npm's library is taken for x86-64")
    archives = needs.packages(f"npm pack onnxruntime-node@{version}")
    out = folder / Path(name).name
    with tarfile.open(archives / f"onnxruntime-node-{version}.tgz") as archive:
        (member,) = (member for member in archive.getnames() if member.endswith(f"/{name}"))
        stream = archive.extractfile(member)
        assert stream is not None
        with stream, out.open("wb") as file:
            shutil.copyfileobj(stream, file)
    return out
