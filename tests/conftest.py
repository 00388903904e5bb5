from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from tests.gpu import host_gpu
from tests.tiny_bundle import write_tiny_bundle
from topos_rt.gpu import cuda, ops
from topos_rt.pipeline import HeadPipeline

# The machine may be busy, so no test fails for its time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small valid bundle. All tests share it, so none may change it."""
    directory = tmp_path_factory.mktemp("bundles") / "tiny"
    directory.mkdir()
    write_tiny_bundle(directory)
    return directory


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the small bundle that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "own"))


@pytest.fixture(scope="session")
def tiny_pipe(tiny_bundle: Path) -> Iterator[HeadPipeline]:
    """The small bundle, loaded once; no test may close it."""
    with HeadPipeline.open(tiny_bundle, threads=1) as pipe:
        yield pipe


@pytest.fixture(scope="session")
def host_module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The kernels built for the host, once for all tests."""
    return host_gpu.load(host_gpu.build(tmp_path_factory.mktemp("kernels")))


@pytest.fixture
def host(host_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[host_gpu.HostCuda]:
    """The kernels and their CUDA, on the host."""
    fake = host_gpu.HostCuda(host_module)
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    monkeypatch.setattr(ops, "kernels", lambda: fake)
    yield fake
    for address in list(fake.blocks):
        fake.check(address)
