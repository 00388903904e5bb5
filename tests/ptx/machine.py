"""An interpreter for a block of a kernel's PTX, whose threads are lanes of NumPy arrays.

Of all threads that do not wait, those at the lowest instruction go on together, so that diverged threads meet
again as soon as they can. With an order, warps run one after the other instead, each as far as it can: a read
that lacks a barrier then finds nothing. Copies in the background arrive as late as they may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.ptx import alu, tensor
from tests.ptx.memory import Fault, Global, Shared, bits, sectors, wavefronts
from tests.ptx.source import Instruction, Kernel, Memory, Number, Operand, Register, Symbol, Vector

WARP = 32
_STEPS = 5_000_000  # a block that takes more is said to hang


class Block:
    """One block, from its start to its end."""

    def __init__(
        self, kernel: Kernel, number: int, shared: int, parameters: bytes, memory: Global, order: str | None
    ) -> None:
        n = kernel.threads
        self.kernel, self.number, self.order, self.memory = kernel, number, order, memory
        self.lanes = np.arange(n)
        self.shared = Shared(shared, n)
        self.parameters = np.frombuffer(parameters, np.uint8)
        self.registers: dict[str, np.ndarray] = {}
        self.at = np.zeros(n, np.int64)  # each thread's next instruction
        self.done, self.waiting = np.zeros(n, bool), np.zeros(n, bool)
        self.copies = tensor.Copies(n, number * n)
        self.products = tensor.Products(n // WARP, any(i.parts[0] == "wgmma" for i in kernel.instructions))
        self.counts: Counter[str] = Counter()
        self.sectors: set[int] = set()
        self.leaders = frozenset(kernel.labels.values())

    def run(self) -> None:
        """Run until every thread has returned. Raises Fault, with the line of PTX."""
        program = self.kernel.instructions
        for _ in range(_STEPS):
            free = ~self.done & ~self.waiting
            if not free.any():
                if self.done.all():
                    return
                self._release()
                continue
            here = np.flatnonzero(free if self.order is None else free & self._warp(free))
            place = int(self.at[here].min())
            active = here[self.at[here] == place]
            while True:  # instructions without a branch or a label
                going = self._step(program[place], active)
                place += 1
                if not going or place in self.leaders:
                    break
                self.at[active] = place
            if going:
                self.at[active] = place
        raise Fault(f"{self.kernel.name}: does not end")

    def _warp(self, free: np.ndarray) -> np.ndarray:
        warps = self.lanes // WARP
        chosen = warps[free].min() if self.order == "forward" else warps[free].max()
        return np.asarray(warps == chosen)

    def _release(self) -> None:
        if not (self.waiting | self.done).all():
            raise Fault("a barrier that some threads never reach")
        self.waiting[:] = False
        self.shared.epoch += 1

    def _step(self, instruction: Instruction, active: np.ndarray) -> bool:
        """Run an instruction for some threads. Return whether all of them are at the next one now."""
        moved = active
        if instruction.guard is not None:
            taken = self._bits(instruction.guard)[active] != instruction.negated
            moved = active[taken]
        try:
            self.products.check(instruction, moved)
            name = instruction.parts[0]
            if name not in ("bra", "bar", "ret"):
                if len(moved):
                    _HANDLERS.get(name, _arithmetic)(self, instruction, moved)
                    self._count(instruction, moved)
                return True
            return self._flow(instruction, active, moved)
        except Fault as fault:
            where = f"block {self.number}, threads {moved[:4].tolist()}…, PTX line {instruction.line}"
            raise Fault(f"{fault} ({where}: {instruction.text[:80]})") from fault

    def _flow(self, instruction: Instruction, active: np.ndarray, moved: np.ndarray) -> bool:
        self.counts["control"] += len(np.unique(moved // WARP))
        name, next_one = instruction.parts[0], self.at[active] + 1
        self.at[active] = next_one
        if name == "bra":
            target = instruction.operands[-1]
            assert isinstance(target, Symbol)
            self.at[moved] = self.kernel.labels[target.name]
        elif name == "ret":
            self.done[moved] = True
        else:
            self.waiting[moved] = True
        return False

    def _count(self, instruction: Instruction, active: np.ndarray) -> None:
        self.counts[_CLASSES.get(instruction.parts[0], "arithmetic")] += len(np.unique(active // WARP))

    def _bits(self, name: str) -> np.ndarray:
        found = self.registers.get(name)
        if found is None:
            kinds = self.kernel.registers
            kind = kinds.get(name) or kinds[name.rstrip("0123456789")]
            found = self.registers[name] = np.zeros(len(self.lanes), kind)
        return found

    def value(self, operand: Operand, kind: str) -> np.ndarray:
        """Return the values [threads] of an operand, in a type."""
        dtype = np.dtype(alu.TYPES[kind])
        if isinstance(operand, Register):
            raw = self._bits(operand.name)
            if raw.dtype == np.bool_ or dtype == np.bool_:
                return raw
            if raw.dtype.itemsize != dtype.itemsize:
                raw = raw.astype(f"u{dtype.itemsize}")
            return raw.view(dtype)
        unsigned = np.dtype(f"u{dtype.itemsize}") if dtype != np.bool_ else dtype
        if isinstance(operand, Number):
            bits_ = operand.bits if dtype == np.bool_ else operand.bits % (1 << 8 * dtype.itemsize)
            return np.full(len(self.lanes), bits_, unsigned).view(dtype)
        assert isinstance(operand, Symbol), operand
        return self._special(operand.name).astype(unsigned).view(dtype)

    def _special(self, name: str) -> np.ndarray:
        if name == "%tid.x":
            return self.lanes
        numbers = {"%ctaid.x": self.number, "%ntid.x": len(self.lanes), "%laneid": self.lanes % WARP}
        if name.startswith("%") and name not in numbers:
            raise Fault(f"a register that this machine does not know: {name}")
        # Shared memory and parameters each have an address space that begins at zero.
        return np.broadcast_to(numbers.get(name, 0), len(self.lanes))

    def put(self, operand: Operand, values: np.ndarray, active: np.ndarray) -> None:
        """Set a register in some threads. Narrow values are extended, by their sign if they have one."""
        assert isinstance(operand, Register), operand
        target = self._bits(operand.name)
        if target.dtype != np.bool_:
            same = values.dtype.itemsize == target.dtype.itemsize
            values = values.view(target.dtype) if same else values.astype(target.dtype)
        target[active] = values[active] if len(values) == len(self.lanes) else values
        self.products.wrote(operand.name, active)

    def addresses(self, operand: Operand, active: np.ndarray) -> np.ndarray:
        """Return the addresses [active] of a memory operand."""
        assert isinstance(operand, Memory), operand
        wide = isinstance(operand.base, Symbol) or self._bits(operand.base.name).dtype == np.uint64
        return self.value(operand.base, "s64" if wide else "s32")[active].astype(np.int64) + operand.offset


def _arithmetic(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    parts, (target, *sources) = instruction.parts, instruction.operands
    name, kind = ".".join(parts[:-1]), parts[-1]
    with np.errstate(all="ignore"):
        if parts[0] == "setp":
            values = alu.compare(parts[1], *(block.value(s, kind) for s in sources))
        elif parts[0] == "selp":
            a, b = (block.value(s, kind) for s in sources[:2])
            values = np.where(block.value(sources[2], "pred"), a, b)
        elif parts[0] == "cvt":
            values = alu.convert(parts, *(block.value(s, kind) for s in sources))
        elif name == "mul.wide":
            values = alu.multiply_wide(kind, *(block.value(s, kind) for s in sources))
        elif name in alu.SHIFTS:
            values = alu.SHIFTS[name](block.value(sources[0], kind), block.value(sources[1], "u32"))
        elif name in alu.PLAIN:
            values = alu.PLAIN[name](*(block.value(s, kind) for s in sources))
        else:
            raise Fault(f"an instruction that this machine does not know: {'.'.join(parts)}")
    block.put(target, values, active)


def _move(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    target, source = instruction.operands
    if isinstance(target, Vector):  # two halves of a register
        wide = block.value(source, "b32")
        for place, part in enumerate(target.parts):
            block.put(part, (wide >> np.uint32(16 * place)).astype(np.uint16), active)
    elif isinstance(source, Vector):
        low, high = (block.value(part, "b16").astype(np.uint32) for part in source.parts)
        block.put(target, high << np.uint32(16) | low, active)
    else:
        block.put(target, block.value(source, instruction.parts[-1]), active)
        block.products.moved(target, source, active)


def _load(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    space, kind = instruction.parts[1], instruction.parts[-1]
    target, source = instruction.operands
    targets = target.parts if isinstance(target, Vector) else (target,)
    dtype = np.dtype(alu.TYPES[kind])
    size, addresses = len(targets) * dtype.itemsize, block.addresses(source, active)
    if space == "param":
        raw = block.parameters[addresses[:, None] + np.arange(size)]
    elif space == "shared":
        raw = block.shared.read(active, addresses, size)
        _count_shared(block, active, addresses, size)
    else:
        raw = block.memory.read(_grid(block, active), addresses, size)
        _count_global(block, active, addresses, size)
    numbers = np.ascontiguousarray(raw).view(dtype)
    for place, part in enumerate(targets):
        block.put(part, numbers[:, place], active)


def _store(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    space, kind = instruction.parts[1], instruction.parts[-1]
    target, source = instruction.operands
    parts = source.parts if isinstance(source, Vector) else (source,)
    values = bits(np.stack([block.value(part, kind)[active] for part in parts], 1))
    addresses = block.addresses(target, active)
    if space == "shared":
        block.shared.write(active, addresses, values)
        _count_shared(block, active, addresses, values.shape[1])
    else:
        block.memory.write(_grid(block, active), addresses, values)
        _count_global(block, active, addresses, values.shape[1])


def _grid(block: Block, active: np.ndarray) -> np.ndarray:
    return np.asarray(block.number * len(block.lanes) + active)


def _count_shared(block: Block, active: np.ndarray, addresses: np.ndarray, size: int) -> None:
    took, least = wavefronts(active, addresses, size)
    block.counts["wavefronts"] += took
    block.counts["wavefronts at least"] += least


def _count_global(block: Block, active: np.ndarray, addresses: np.ndarray, size: int) -> None:
    block.counts["sectors"] += sectors(active, addresses, size)
    block.sectors.update((addresses // 32).tolist())


def _whole_warps(active: np.ndarray) -> np.ndarray:
    """Return the warps of some threads. Raises Fault where one is not whole."""
    warps, lanes = np.unique(active // WARP, return_counts=True)
    if (lanes != WARP).any():
        raise Fault("an instruction of whole warps that some lanes do not reach")
    return warps


def _shuffle(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    _whole_warps(active)
    target, source, lane_mask, *_ = instruction.operands
    assert instruction.parts[2] == "bfly" and isinstance(target, Vector)
    values = block.value(source, "b32")
    block.put(target.parts[0], values[block.lanes ^ block.value(lane_mask, "u32")], active)
    block.put(target.parts[1], np.ones(len(block.lanes), bool), active)


def _load_tiles(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    """Do ldmatrix: lane 8 i + r has the address of row r of tile i; a lane gets two numbers of each tile."""
    assert instruction.parts[3:5] == ("m8n8", "x4") and instruction.parts[-2:] == ("shared", "b16")
    warps = _whole_warps(active)
    target, source = instruction.operands
    assert isinstance(target, Vector)
    addresses = block.addresses(source, active)
    rows = np.ascontiguousarray(block.shared.read(active, addresses, 16)).view(np.uint16)
    _count_shared(block, active, addresses, 16)
    tiles = rows.reshape(len(warps), 4, 8, 8).astype(np.uint32)
    if "trans" in instruction.parts:
        tiles = tiles.swapaxes(-1, -2)
    for place, part in enumerate(target.parts):
        pairs = tiles[:, place].reshape(len(warps), 8, 4, 2)  # row, lane of four, two adjacent numbers
        block.put(part, (pairs[..., 1] << np.uint32(16) | pairs[..., 0]).reshape(-1), active)


def _tensor(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    tensor.run(block, instruction, active, _whole_warps(active))


def _copy(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    if instruction.parts[2] == "cg":
        target, source, size = instruction.operands
        assert isinstance(size, Number)
        to, start = block.addresses(target, active), block.addresses(source, active)
        block.memory.read(_grid(block, active), start, size.bits)  # so that a fault names this line
        block.copies.begin(block.shared, active, to, start, size.bits)
        _count_shared(block, active, to, size.bits)
        _count_global(block, active, start, size.bits)
    elif instruction.parts[2] == "commit_group":
        block.copies.commit(active)
    else:
        (left,) = instruction.operands
        assert instruction.parts[2] == "wait_group" and isinstance(left, Number)
        block.copies.wait(block.shared, block.memory, active, left.bits)


def _fence(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    assert instruction.parts[1:3] == ("proxy", "async")
    own = np.isin(block.shared.writer, active) & ~block.shared.copying
    block.shared.generic[own] = False


def _trap(block: Block, instruction: Instruction, active: np.ndarray) -> None:
    raise Fault("trap")


_HANDLERS: dict[str, Callable[[Block, Instruction, np.ndarray], None]] = {
    "mov": _move, "ld": _load, "st": _store, "shfl": _shuffle, "mma": _tensor, "wgmma": _tensor, "cp": _copy,
    "fence": _fence, "trap": _trap, "ldmatrix": _load_tiles,
}  # fmt: skip
_CLASSES = {
    "ld": "memory", "ldmatrix": "memory", "st": "memory", "mma": "tensor", "wgmma": "tensor", "cp": "copy",
    "shfl": "shuffle",
}  # fmt: skip
