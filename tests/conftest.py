"""What all tests share, in one process or in several of pytest-xdist (`make test`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock
from hypothesis import settings

# Before anything imports onnxruntime; see topos_rt.engines.onnxruntime.library.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from tests.gpu import host_gpu
from tests.tiny_bundle import write_tiny_bundle
from topos_rt import pipeline
from topos_rt.bench import session
from topos_rt.gpu import cuda, ops
from topos_rt.pipeline import HeadPipeline

# The machine may be busy, so no test fails for its time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, …; None where tests run in one process
# Files that take longest, which workers begin with so that they end together.
LONGEST = (
    "export/test_official.py", "gpu/test_kernels_build.py", "ptx/test_kernels.py", "model/test_decoder.py",
    "sdk/test_equal.py",
    "export/test_forms.py", "export/test_onnx_files.py", "benchmarks/test_count_kernels.py",
    "export/test_random.py", "model/test_recorded.py", "export/test_landmarks.py",
)  # fmt: skip


def pytest_configure() -> None:
    """Give each worker a core of its own: whatever counts cores then runs one thread.

    Engines, PyTorch and BLAS of two workers, with a thread for each core each, would be in each other's way.
    """
    if WORKER and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(WORKER.removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and the processes that they start, away from the user's own cache and key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPOS_RT_CACHE_KEY", str(tmp_path_factory.mktemp("state") / "key"))
        patch.setenv("TOPOS_RT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(scope="module")
def whole_pictures() -> Iterator[None]:
    """Make pipelines take pictures whole, for the tests of a module whose pictures show nobody."""
    with pytest.MonkeyPatch.context() as patch:
        _take_whole(patch)
        yield


def _take_whole(patch: pytest.MonkeyPatch) -> None:
    for module in (pipeline, session):
        patch.setattr(module, "FaceFinder", lambda networks: None)


@pytest.fixture(scope="session")
def tiny_pipe(tiny_bundle: Path) -> Iterator[HeadPipeline]:
    """The small bundle, loaded once, which takes pictures whole; no test may close it."""
    with pytest.MonkeyPatch.context() as patch:
        _take_whole(patch)
        opened = HeadPipeline.open(tiny_bundle, threads=1)
    with opened as pipe:
        yield pipe


@pytest.fixture(scope="session")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels built for the host, once for all tests of all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if WORKER else base) / "kernels"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        built = next(folder.glob("_kernels*"), None)
        return built or host_gpu.build(folder)


@pytest.fixture(scope="session")
def host_module(host_kernels: Path) -> ModuleType:
    return host_gpu.load(host_kernels)


@pytest.fixture
def host(host_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[host_gpu.HostCuda]:
    """The kernels and their CUDA, on the host."""
    fake = host_gpu.HostCuda(host_module)
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    monkeypatch.setattr(ops, "kernels", lambda: fake)
    yield fake
    for address in list(fake.blocks):
        fake.check(address)
