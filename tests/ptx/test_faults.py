"""Kernels that lack something are found out, each by what it lacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.gpu import test_graph_conv, test_graph_conv_tiled
from tests.gpu.shapes import features, random_layer
from tests.gpu.test_graph_conv_tiled import neighbours_of
from tests.ptx import alu
from tests.ptx.device import Machine
from tests.ptx.memory import Fault, Global, wavefronts
from tests.ptx.source import kernel_of

Edit = Callable[[str], str]
RUNS = {"all GPUs": test_graph_conv.run, "Hopper": test_graph_conv_tiled.run}


def without(pattern: str, count: int = 0) -> Edit:
    return lambda text: re.sub(pattern, "", text, count=count)


def instead(pattern: str, more: str, count: int = 0) -> Edit:
    return lambda text: re.sub(pattern, more, text, count=count)


def run(kernel: str, arena: Any, machine: Machine, edit: Edit = str, width: int = 128) -> np.ndarray:
    machine.edit = edit
    rng = np.random.default_rng(0)
    x, neighbours, layer = features(rng, 30, 128), neighbours_of(rng, 70, 30), random_layer(rng, 128, width)
    return RUNS[kernel](arena, x, neighbours, layer, features(rng, 70, width))


LACKS: dict[str, tuple[str, Edit, str]] = {
    "barriers": ("all GPUs", without(r"bar\.sync\s+0;"), "a race"),
    "Hopper's barriers": ("Hopper", without(r"bar\.sync\s+0;"), "a race|never written|still copying"),
    "a wait for copies": ("all GPUs", without(r"cp\.async\.wait_group \d;"), "still copying"),
    "Hopper's wait for copies": ("Hopper", without(r"cp\.async\.wait_group \d;"), "still copying|proxy"),
    "one more copy waited for": (
        "all GPUs", instead(r"cp\.async\.wait_group 1;", "cp.async.wait_group 2;"), "still copying",
    ),
    "copies in groups": ("all GPUs", without(r"cp\.async\.commit_group;"), "still copying"),
    "a fence for the tensor cores": ("Hopper", without(r"fence\.proxy\.async\S*;"), r"no fence\.proxy"),
    "a fence of registers": ("Hopper", without(r"wgmma\.fence\S*;"), r"written after the last wgmma\.fence"),
    "waits for products": ("Hopper", without(r"wgmma\.wait_group\S* 0;"), "held by a wgmma|still reads"),
    "patience for products": (
        "Hopper", instead(r"(wgmma\.wait_group\S*) 0;", r"\1 1;"), "held by a wgmma|still reads",
    ),
    "products in groups": ("Hopper", without(r"wgmma\.commit_group\S*;"), "held by a wgmma|still reads"),
    "stores to shared memory": ("all GPUs", without(r"st\.shared\.v4\S*\s[^;]*;"), "never written"),
    "alignment": ("all GPUs", instead(r"(ld\.global\.nc\.v4\S*\s[^;]*)\]", r"\1+4]"), "no multiple"),
    # 2 GiB is as far as an instruction can reach; after 64 KiB there may be another allocation.
    "bounds": (
        "all GPUs", instead(r"(ld\.global\.nc\.v4\S*\s[^;]*)\]", r"\1+2147483632]"), "outside of every"
    ),
    "bounds of shared memory": (
        "all GPUs", instead(r"(ld\.shared\.v2\S*\s[^;\[]*\[%r\d+)(\+\d+)?\]", r"\1+1048576]"),
        "shared memory: 8",
    ),
    "a known instruction": ("all GPUs", instead(r"rsqrt\.approx", "lg2.approx"), "does not know: lg2"),
}  # fmt: skip


@pytest.mark.parametrize("what", LACKS)
def test_what_is_missing_is_found(arena: Any, machine: Machine, what: str) -> None:
    kernel, edit, message = LACKS[what]
    with pytest.raises(Fault, match=rf"(?s)({message}).*PTX line \d+"):
        run(kernel, arena, machine, edit)


@pytest.mark.parametrize("kernel", RUNS)
def test_nothing_is_found_where_nothing_is_missing(arena: Any, machine: Machine, kernel: str) -> None:
    assert np.isfinite(run(kernel, arena, machine)).all()


@pytest.mark.parametrize("kernel", RUNS)
def test_every_barrier_is_needed(arena: Any, machine: Machine, kernel: str) -> None:
    """Each is missed if it alone is left out. With 512 columns two warps share a group of the norm."""
    texts: list[str] = []
    width = {"all GPUs": 512, "Hopper": 128}[kernel]
    run(kernel, arena, machine, lambda text: texts.append(text) or text, width)
    body = machine.launches[-1].kernel.partition("__N_1")[2][:-1]
    begin = re.search(rf"\.entry \w*{body}EEEvT_\(", texts[0])
    assert begin is not None
    kernel_text = texts[0][begin.end() :].split(".entry")[0]
    barriers = [begin.end() + found.start() for found in re.finditer(r"bar\.sync", kernel_text)]
    assert len(barriers) >= 2
    for place in barriers:
        edited = f"{texts[0][:place]}//{texts[0][place:]}"
        with pytest.raises(Fault):
            run(kernel, arena, machine, lambda _, edited=edited: edited, width)


def test_races_in_global_memory(arena: Any, machine: Machine) -> None:
    start = arena.put(np.zeros(16, np.float32)).address
    addresses, threads, values = start + 4 * np.arange(4), np.arange(4), np.zeros((4, 4), np.uint8)
    memory = Global(machine.device)
    memory.write(threads, addresses, values)
    memory.read(threads, addresses, 4)
    with pytest.raises(Fault, match="two threads write"):
        memory.write(threads[::-1], addresses, values)
    with pytest.raises(Fault, match="another thread writes"):
        memory.read(threads + 1, addresses, 4)
    with pytest.raises(Fault, match="two threads write"):
        memory.write(threads, np.full(4, start + 32), values)


def test_banks_by_hand() -> None:
    lanes = np.arange(32)
    assert wavefronts(lanes, 4 * lanes, 4) == (1, 1)
    assert wavefronts(lanes, 8 * lanes, 4) == (2, 1)  # twice every second bank
    assert wavefronts(lanes, 128 * lanes, 4) == (32, 1)
    assert wavefronts(lanes, 0 * lanes, 4) == (1, 1)  # one word for all
    assert wavefronts(lanes, 16 * lanes, 16) == (4, 4)
    assert wavefronts(lanes, 16 * lanes, 8) == (4, 2)  # half of every 16 bytes
    assert wavefronts(lanes, lanes // 4 * 128 + lanes % 4 * 16, 16) == (8, 4)  # the same half of rows


NUMBERS: dict[str, tuple[Any, Any]] = {
    "division goes towards zero": (alu.PLAIN["div"](np.int32([-7, 7]), np.int32([2, -2])), [-3, -3]),
    "shifts beyond the width": (alu.SHIFTS["shr"](np.int32([-8, 8]), np.uint32([40, 32])), [-1, 0]),
    "zeros shifted in": (alu.SHIFTS["shl"](np.uint32([1, 1]), np.uint32([31, 32])), [1 << 31, 0]),
    "products of twice the width": (
        alu.multiply_wide("s32", np.int32([-3]), np.int32([1 << 30])),
        [-3 << 30],
    ),
    "NaN is not less": (alu.compare("lt", np.float32([np.nan, 1]), np.float32([1, 2])), [False, True]),
    "but not greater either": (
        alu.compare("leu", np.float32([np.nan, 3]), np.float32([1, 2])),
        [True, False],
    ),
    "NaN is not unequal": (alu.compare("ne", np.float32([np.nan]), np.float32([1])), [False]),
    "a fused product": (alu.PLAIN["fma.rn"](*np.float32([[1 + 2**-12], [1 - 2**-12], [-1]])), [-(2.0**-24)]),
    "a pair of halves": (alu.convert(("cvt", "rn", "f16x2", "f32"), *np.float32([[1], [-2]])), [0x3C00C000]),
    "the larger that is a number": (alu.PLAIN["max"](np.float32([np.nan]), np.float32([1])), [1]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_arithmetic_by_hand(case: str) -> None:
    got, want = NUMBERS[case]
    assert got.tolist() == want


def test_a_module_is_read() -> None:
    text = """
.visible .entry one(.param .u64 one_param_0, .param .align 8 .b8 one_param_1[24])
.maxntid 64, 1, 1
{
	.reg .b32 %r<3>;
	// a comment; with a semicolon
	@!%p1 bra $L__1;
	{.reg .f16 low,high; mov.b32 {low,high}, %r1; cvt.f32.f16 %r2, low;}
$L__1:
	ld.shared.v2.u32 {%r1, %r2}, [%r0+-8];
	ret;
}
"""
    kernel = kernel_of(text, "ne")
    assert (kernel.threads, kernel.parameters) == (64, {"one_param_0": 8, "one_param_1": 24})
    assert [i.parts[0] for i in kernel.instructions] == ["bra", "mov", "cvt", "ld", "ret"]
    assert kernel.labels == {"$L__1": 3} and kernel.instructions[0].negated
    assert kernel.instructions[3].line == 10 and kernel.registers["low@1"] is np.uint16
