"""csrc/ compiled by nvcc without warnings or spilled registers, and by the package's own build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.gpu import host_gpu
from tests.gpu.host_gpu import CSRC
from topos_rt.flow.program import MAX_TERMS
from topos_rt.gpu import ops
from topos_rt.gpu.layers import SLICES, WIDTHS
from topos_rt.gpu.tables import TILE_ROWS, TILE_SOURCES, TILE_STEPS, TILE_TABLE

ROOT = CSRC.parent
SOURCES = sorted(path.name for path in CSRC.glob("*.cu"))
KERNELS = {
    "graph_conv.cu": len(WIDTHS), "graph_conv_tiled.cu": 8 * len(SLICES), "flow_step.cu": 2, "project.cu": 3,
}  # fmt: skip
_KERNEL = re.compile(
    r"Compiling entry function '(\S+)' for '(sm_\d+a?)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores,"
    r" (\d+) bytes spill loads\n.*?Used (\d+) registers",
    re.DOTALL,
)


def resources(text: str) -> list[tuple[str, str, int, int, int]]:
    """Read ptxas's report: kernel, architecture, bytes of stack and of spills, registers."""
    return [
        (name, arch, int(stack), int(out) + int(back), int(registers))
        for name, arch, stack, out, back, registers in _KERNEL.findall(text)
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_no_warnings_and_no_spills(source: str, tmp_path: Path) -> None:
    """This compiles for the oldest architecture that is supported and for Hopper."""
    words = [
        needs.nvcc(),
        "-std=c++17",
        "-O3",
        "-Xptxas=-v",
        "-Werror=all-warnings",
        "-Xcompiler=-Wall,-Wextra,-Werror",
        "--threads=2",
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-c",
        str(CSRC / source),
        "-o",
        str(tmp_path / "out.o"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = resources(done.stdout + done.stderr)
    assert len(found) == 2 * KERNELS.get(source, 1)
    # ptxas says so where it makes the tensor cores wait for each other.
    assert "serialized" not in done.stderr + done.stdout, done.stderr
    for name, arch, stack, spilled, registers in found:
        print(f"{arch} {registers} registers, {spilled} bytes spilled, {name}")
        assert stack == spilled == 0, (name, arch)
        assert registers <= 255


def test_products_that_must_be_rounded(tmp_path: Path) -> None:
    """nvcc fuses a * b + c unless told not to, and the host that the other tests run on never does.

    With fused products the steps of the sampler would not be those of the twin.
    """
    ptx = tmp_path / "out.ptx"
    source = str(CSRC / "flow_step.cu")
    words = [needs.nvcc(), "-std=c++17", "-O3", "-arch=sm_90", "-ptx", source, "-o", str(ptx)]
    subprocess.run(words, check=True)
    text = ptx.read_text()
    assert text.count("mul.rn.f32") >= 4 and text.count("fma.rn.f32") == 0


def test_the_report_is_read() -> None:
    text = (
        "ptxas info    : Compiling entry function '_Z1a' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z1a\n"
        "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 24 registers, used 1 barriers\n"
    )
    assert resources(text * 2) == [("_Z1a", "sm_90", 8, 16, 24)] * 2


def test_sizes_are_those_of_the_kernels(host_module: Any) -> None:
    assert host_module.WIDTHS == WIDTHS
    assert tuple(SLICES) == host_module.TILED_WIDTHS
    assert (TILE_ROWS, TILE_SOURCES, TILE_STEPS, TILE_TABLE.itemsize) == host_module.TILE
    assert MAX_TERMS == host_module.MAX_TERMS


def test_the_bindings_take_keywords_only(host_module: Any) -> None:
    nothing = {"rows": 0, "c_in": 1, "c_out": 8, "out": 0, "stream": 0}
    host_module.pack_rows(x=0, **nothing)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        host_module.pack_rows(0, **nothing)


def test_memory_is_not_read_or_written_past_its_end(host_kernels: Path, tmp_path: Path) -> None:
    """AddressSanitizer watches every width with ragged sizes and arrays of exactly the right size.

    Without optimisation the build takes a third of the time, and no access is left out.
    """
    words = [needs.compiler(), "-print-file-name=libasan.so"]
    library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    needs.tool("AddressSanitizer", os.path.isabs(library), "install libasan, which comes with gcc")
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0", "-g")
    module = host_gpu.build(tmp_path, *flags, bindings=host_kernels.with_name("bindings.cpp.o"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.sanitized", str(module)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["clean"]


def test_the_installed_package_has_the_kernels_where_nvcc_is() -> None:
    """An installation falls back to pure Python when the build fails; CI must notice."""
    needs.machine(needs.in_ci(), "not CI: nobody has installed the package for certain")
    needs.nvcc()
    assert ops.kernels().WIDTHS == WIDTHS


@pytest.mark.slow
def test_the_wheel_has_the_kernels_where_nvcc_is(tmp_path: Path) -> None:
    needs.nvcc()
    needs.module("scikit_build_core")
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    assert not path.name.endswith("none-any.whl")
    with zipfile.ZipFile(path) as archive:
        (kernels,) = (name for name in archive.namelist() if "_kernels" in name)
        archive.extract(kernels, tmp_path)
    # It must be importable without a GPU, and say why it cannot run.
    code = (
        f"import importlib.util as u; s = u.spec_from_file_location('_kernels', {str(tmp_path / kernels)!r});"
        "m = u.module_from_spec(s); s.loader.exec_module(m); print(*m.WIDTHS)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(map(int, done.stdout.split())) == WIDTHS
