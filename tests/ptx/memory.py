"""The memory of a launch, and what compute-sanitizer would say of accesses to it.

Shared memory is watched in units of two bytes. A unit knows who wrote it last and who read it, and in which
epoch (a barrier begins the next): two threads, one of them writing, in one epoch are a race.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.gpu import host_gpu

UNIT = 2
BANKS, BANK = 32, 4  # bytes
SECTOR = 32
_NOBODY, _SEVERAL = -1, -2


class Fault(AssertionError):
    """Something that a GPU would not do, or that cannot be relied on."""


def ranges(addresses: np.ndarray, size: int, unit: int = 1) -> np.ndarray:
    """Return [n, size / unit] the units of n accesses; an access to part of a unit has that one."""
    return addresses[:, None].astype(np.int64) // unit + np.arange(max(1, size // unit))


class Shared:
    """Shared memory of one block."""

    def __init__(self, size: int, threads: int) -> None:
        self.bytes = np.full(size, 0xFF, np.uint8)
        units = -(-size // UNIT)
        self.epoch = 0
        self.writer, self.written = np.full(units, _NOBODY), np.full(units, -1)
        self.reader, self.read_at = np.full(units, _NOBODY), np.full(units, -1)
        self.copying = np.zeros(units, bool)  # cp.async is still writing them
        self.multiplied = np.zeros(units, np.int32)  # wgmmas under way that read them
        self.generic = np.zeros(units, bool)  # written, but not yet visible to the tensor cores

    def _units(self, threads: np.ndarray, addresses: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        if int(addresses.min()) < 0 or int(addresses.max()) + size > len(self.bytes):
            raise Fault(f"shared memory: {size} bytes at {int(addresses.max())} of {len(self.bytes)}")
        if (addresses.astype(np.int64) % size).any():
            raise Fault(f"shared memory: {size} bytes at an address that is no multiple of that")
        units = ranges(addresses, size, UNIT)
        return units.reshape(-1), np.repeat(threads, units.shape[1])

    def _not_copying(self, units: np.ndarray) -> None:
        if self.copying[units].any():
            raise Fault("shared memory: an access to bytes that cp.async is still copying")

    def read(self, threads: np.ndarray, addresses: np.ndarray, size: int) -> np.ndarray:
        """Read [n, size] bytes."""
        units, who = self._units(threads, addresses, size)
        self.look(units, who)
        return self.bytes[ranges(addresses, size)]

    def look(self, units: np.ndarray, who: np.ndarray) -> None:
        """Note that threads read units."""
        self._not_copying(units)
        if (self.written[units] < 0).any():
            raise Fault("shared memory: a read of bytes that were never written")
        if ((self.written[units] == self.epoch) & (self.writer[units] != who)).any():
            raise Fault("shared memory: a race, a read of what another thread wrote with no barrier between")
        fresh = self.read_at[units] != self.epoch
        other = ~fresh & (self.reader[units] != who)
        self.reader[units] = np.where(other, _SEVERAL, who)
        self.read_at[units] = self.epoch
        order = np.argsort(units, kind="stable")  # for units that one instruction reads in several threads
        again = order[1:][(units[order[1:]] == units[order[:-1]]) & (who[order[1:]] != who[order[:-1]])]
        self.reader[units[again]] = _SEVERAL

    def write(self, threads: np.ndarray, addresses: np.ndarray, values: np.ndarray) -> None:
        """Write values, which are [n, size] bytes."""
        size = values.shape[1]
        self.claim(threads, addresses, size)
        self.bytes[ranges(addresses, size)] = values

    def claim(self, threads: np.ndarray, addresses: np.ndarray, size: int) -> None:
        """Note that threads write units."""
        units, who = self._units(threads, addresses, size)
        self._not_copying(units)
        if self.multiplied[units].any():
            raise Fault("shared memory: a write to what wgmma still reads")
        if len(np.unique(units)) != len(units):
            raise Fault("shared memory: a race, two threads of one instruction write the same bytes")
        if ((self.written[units] == self.epoch) & (self.writer[units] != who)).any():
            raise Fault("shared memory: a race, two threads write with no barrier between")
        if ((self.read_at[units] == self.epoch) & (self.reader[units] != who)).any():
            raise Fault("shared memory: a race, a write to what another thread read with no barrier between")
        self.writer[units], self.written[units], self.generic[units] = who, self.epoch, True


class Global:
    """Allocations of a fake device, and which thread wrote what in this launch."""

    def __init__(self, device: host_gpu.HostCuda) -> None:
        self.starts = np.array(sorted(device.blocks), np.int64)
        self.arrays = [self._inside(int(start), device.blocks[int(start)]) for start in self.starts]
        self.writers = [np.full(len(array), _NOBODY) for array in self.arrays]

    @staticmethod
    def _inside(start: int, block: np.ndarray) -> np.ndarray:
        first = start - block.ctypes.data
        return block[first : first + host_gpu.size_of(block)]

    def _places(self, addresses: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield each allocation that accesses go to: its number, which accesses, their bytes in it."""
        addresses = addresses.astype(np.int64)
        if (addresses % size).any():
            raise Fault(f"global memory: {size} bytes at an address that is no multiple of that")
        found = np.searchsorted(self.starts, addresses, "right") - 1
        for which in np.unique(found):
            mine = np.flatnonzero(found == which)
            offsets = addresses[mine] - self.starts[which]
            if which < 0 or int(offsets.max()) + size > len(self.arrays[which]):
                raise Fault(f"global memory: {size} bytes outside of every allocation")
            yield int(which), mine, ranges(offsets, size)

    def read(self, threads: np.ndarray, addresses: np.ndarray, size: int) -> np.ndarray:
        """Read [n, size] bytes. threads: numbers in the grid."""
        values = np.empty((len(addresses), size), np.uint8)
        for which, mine, places in self._places(addresses, size):
            writers = self.writers[which][places]
            if ((writers != _NOBODY) & (writers != threads[mine, None])).any():
                raise Fault("global memory: a race, a read of what another thread writes in the same launch")
            values[mine] = self.arrays[which][places]
        return values

    def write(self, threads: np.ndarray, addresses: np.ndarray, values: np.ndarray) -> None:
        """Write values, which are [n, size] bytes."""
        for which, mine, places in self._places(addresses, values.shape[1]):
            writers, who = self.writers[which][places], threads[mine, None]
            if ((writers != _NOBODY) & (writers != who)).any() or len(np.unique(places)) != places.size:
                raise Fault("global memory: a race, two threads write the same bytes in one launch")
            self.writers[which][places] = who
            self.arrays[which][places] = values[mine]


def wavefronts(lanes: np.ndarray, addresses: np.ndarray, size: int) -> tuple[int, int]:
    """Return how many turns shared memory takes for the accesses of an instruction, and the least possible.

    It serves warp after warp, and half or a quarter of a warp at a time where a lane has 8 or 16 bytes. In
    each turn a bank gives one word, to all lanes that want it.
    """
    took = least = 0
    together = 128 // max(size, BANK)  # lanes at a time
    turn = lanes // together
    words = ranges(addresses, max(size, BANK), BANK)
    for group in np.unique(turn):
        wanted = np.unique(words[turn == group])
        took += int(np.bincount(wanted % BANKS).max())
        least += 1
    return took, least


def sectors(lanes: np.ndarray, addresses: np.ndarray, size: int) -> int:
    """Return how many 32-byte sectors the warps of one instruction ask for."""
    assert size <= SECTOR
    return len(np.unique(np.stack([lanes // 32, addresses.astype(np.int64) // SECTOR]), axis=1).T)


def bits(values: Any) -> np.ndarray:
    """Return the bytes [n, size] of numbers [n, k]."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
