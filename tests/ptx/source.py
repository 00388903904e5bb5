"""A parser for PTX, for as much of the language as nvcc writes for csrc/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

_KERNEL = re.compile(r"\.(?:visible \.)?entry\s+(\w+)\((.*?)\)(.*?)(?=\n\.entry|\n\.visible|\Z)", re.DOTALL)
_PARAM = re.compile(r"\.param .*?\b(\w+)(?:\[(\d+)\])?$")
_THREADS = re.compile(r"\.maxntid (\d+), 1, 1")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(.*)")
_MEMORY = re.compile(r"\[([^+\]]+)(?:\+(-?\d+))?\]")
_OPERAND = re.compile(r"\s*(\{[^}]*\}|\[[^\]]*\]|[^,]+?)\s*(?:,|$)")
WIDTHS = {"pred": np.bool_, "b16": np.uint16, "f16": np.uint16, "b32": np.uint32, "f32": np.uint32,
          "b64": np.uint64, "f64": np.uint64}  # fmt: skip


@dataclass(frozen=True)
class Register:
    name: str


@dataclass(frozen=True)
class Number:
    """The bits of an immediate."""

    bits: int


@dataclass(frozen=True)
class Symbol:
    """A parameter, shared memory, a label, or a special register."""

    name: str


@dataclass(frozen=True)
class Memory:
    base: Register | Symbol
    offset: int


@dataclass(frozen=True)
class Vector:
    parts: tuple[Operand, ...]


Operand: TypeAlias = "Register | Number | Symbol | Memory | Vector"


@dataclass(frozen=True)
class Instruction:
    line: int
    text: str
    parts: tuple[str, ...]  # the parts of its name, such as ("add", "f32")
    operands: tuple[Operand, ...]
    guard: str | None = None
    negated: bool = False


@dataclass(frozen=True)
class Kernel:
    name: str
    threads: int
    parameters: dict[str, int]  # name -> bytes
    registers: dict[str, type]  # name, or prefix -> numpy type
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]  # name -> instruction


@dataclass
class _Reader:
    registers: dict[str, type] = field(default_factory=dict)
    scopes: list[dict[str, str]] = field(default_factory=list)
    opened: int = 0

    def declare(self, kind: str, names: str) -> None:
        for name in map(str.strip, names.split(",")):
            counted = re.fullmatch(r"(%\w+?)<\d+>", name)
            if counted is None and self.scopes:  # each piece of inline assembly has its own
                self.scopes[-1][name] = name = f"{name}@{self.opened}"
            self.registers[counted[1] if counted else name] = WIDTHS[kind]

    def operand(self, text: str) -> Operand:
        text = text.strip()
        if text.startswith("{"):
            return Vector(tuple(self.operand(part) for part in text[1:-1].split(",")))
        if found := _MEMORY.fullmatch(text):
            base = self.operand(found[1])
            assert isinstance(base, (Register, Symbol)), text
            return Memory(base, int(found[2] or 0))
        if "|" in text:
            return Vector(tuple(self.operand(part) for part in text.split("|")))
        for scope in reversed(self.scopes):
            text = scope.get(text, text)
        if re.fullmatch(r"-?\d+", text):
            return Number(int(text))
        if re.fullmatch(r"0f[0-9A-Fa-f]{8}", text):
            return Number(int(text[2:], 16))
        known = text in self.registers or re.sub(r"\d+$", "", text) in self.registers
        return Register(text) if known else Symbol(text)

    def instruction(self, line: int, text: str) -> Instruction:
        guard, negated, rest = None, False, text
        if text.startswith("@"):
            word, rest = text[1:].split(None, 1)
            guard, negated = word.lstrip("!"), word.startswith("!")
        name, _, operands = rest.strip().partition(" ")
        name, operands = name.split("\t")[0], operands + " ".join(name.split("\t")[1:])
        parts = tuple(name.split("."))
        found = tuple(self.operand(part) for part in _OPERAND.findall(operands.strip()) if part)
        return Instruction(line, text, parts, found, guard, negated)


def kernel_of(text: str, ending: str) -> Kernel:
    """Parse the kernel of a module whose name has the ending."""
    text = re.sub(r"//[^\n]*", "", text)
    (found,) = (found for found in _KERNEL.finditer(text) if found[1].endswith(ending))
    return _kernel(text, found)


def _kernel(text: str, found: re.Match[str]) -> Kernel:
    parameters = {}
    for part in filter(None, map(str.strip, found[2].split(","))):
        name, size = _PARAM.search(part).groups()  # type: ignore[union-attr]
        parameters[name] = int(size or 8)
    body = found[3]
    start = body.index("{")
    first_line = text.count("\n", 0, found.start(3) + start) + 1
    reader, instructions, labels = _Reader(), [], {}
    for line, statement in _statements(body[start + 1 : body.rindex("}")], first_line):
        if statement == "{":
            reader.opened += 1
            reader.scopes.append({})
        elif statement == "}":
            reader.scopes.pop()
        elif statement.endswith(":"):
            labels[statement[:-1]] = len(instructions)
        elif declared := _REGISTERS.match(statement):
            reader.declare(declared[1], declared[2])
        elif not statement.startswith("."):
            instructions.append(reader.instruction(line, statement))
    threads = _THREADS.search(body)
    return Kernel(
        found[1], int(threads[1]) if threads else 0, parameters, reader.registers, tuple(instructions), labels
    )


def _statements(body: str, line: int) -> Iterator[tuple[int, str]]:
    """Yield each statement, label and brace of a scope with its line."""
    place = 0
    while found := re.compile(r"\s*(?:([{}])|([\w$]+:)(?!\w)|([^;{}][^;]*);)").match(body, place):
        begin = found.start(found.lastindex or 0)
        yield line + body.count("\n", 0, begin), re.sub(r"\s+", " ", found[found.lastindex or 0].strip())
        place = found.end()
    assert not body[place:].strip(), body[place : place + 80]
