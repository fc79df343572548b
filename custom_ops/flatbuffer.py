# SPDX-License-Identifier: Apache-2.0
"""Reads flatbuffers that may be damaged: every offset, size and count is compared with the file before it is used.

The runtimes' readers follow offsets wherever they lead. Here all tables of a vector are read at once, as NumPy arrays
of their positions, so that a graph of thousands of tensors costs a few milliseconds; the file is viewed, not copied.

A table begins with the distance to its vtable, which tells how long both are and where each field lies (0: absent).
Tables, vectors and strings are reached by the distance to them, vectors and strings begin with their count.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

I8, U8, I32, U32, U64 = (np.dtype(name) for name in ("i1", "u1", "<i4", "<u4", "<u8"))
_U16 = np.dtype("<u2")
MAX_SLOTS = 32  # of a vtable; the largest that we read has 14


class DamagedFile(Exception):
    """Says what of the file cannot be; the reader of the format adds its name and the remedy."""


@dataclass(frozen=True)
class Kind:
    """A type of table: what messages call it, and its fields by slot. One without a name must be absent."""

    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Lists:
    """A list of values for each table, one after the other in ``values``; empty where the table has none."""

    values: np.ndarray
    counts: np.ndarray

    @property
    def owners(self) -> np.ndarray:
        """The table of each value."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @functools.cached_property
    def ends(self) -> np.ndarray:
        return np.cumsum(self.counts)

    def of(self, table: int) -> np.ndarray:
        end = int(self.ends[table])
        return self.values[end - int(self.counts[table]) : end]


@dataclass(frozen=True)
class Texts:
    """The string of each table, decoded when it is asked for."""

    data: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> str:
        start = int(self.starts[index])
        return self.data[start : start + int(self.counts[index])].tobytes().decode(errors="replace")


class Flatbuffer:
    """The bytes of a file as numbers at any place. Vectors together may not be longer than the file: none is shared,
    so one whose offsets lead to the same vectors again and again is refused before it costs time."""

    def __init__(self, data: np.ndarray) -> None:
        """``data`` uint8 (size,), for instance mapped."""
        self.data, self.size = data, data.size
        self.unread = self.size
        self.views = {dtype: data[: data.size // dtype.itemsize * dtype.itemsize].view(dtype) for dtype in _NUMBERS}

    def at(self, positions: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
        """Numbers at byte positions, of which each must be aligned as flatbuffers are."""
        self.expect_inside(positions, dtype.itemsize, dtype.itemsize, what)
        return self.views[dtype][positions // dtype.itemsize]

    def inside(self, positions: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
        """As `at`, where it is known that the positions lie inside."""
        self.expect_aligned(positions, dtype.itemsize, what)
        return self.views[dtype][positions // dtype.itemsize]

    def expect_inside(self, positions: np.ndarray, sizes: np.ndarray | int, alignment: int, what: str) -> None:
        if np.count_nonzero((positions < 0) | (positions + sizes > self.size)):
            raise DamagedFile(f"{what}: outside of the file")
        self.expect_aligned(positions, alignment, what)

    def expect_aligned(self, positions: np.ndarray, alignment: int, what: str) -> None:
        if alignment > 1 and np.count_nonzero(positions & (alignment - 1)):
            raise DamagedFile(f"{what}: not aligned")

    def root(self, kind: Kind) -> Tables:
        start = np.zeros(1, np.int64)
        return Tables(self, kind, start + self.at(start, U32, kind.name).astype(np.int64))

    def spend(self, sizes: np.ndarray, what: str) -> None:
        self.unread -= int(sizes.sum())
        if self.unread < 0:
            raise DamagedFile(f"{what}: vectors are longer than the file")


_NUMBERS = (I8, U8, _U16, I32, U32, U64)


class Tables:
    """Tables of one kind by their positions int64 (tables,). ``place`` goes before their name in messages."""

    def __init__(self, buffer: Flatbuffer, kind: Kind, positions: np.ndarray, place: str = "") -> None:
        self.buffer, self.kind, self.positions = buffer, kind, positions
        self.what = place + kind.name
        self.vtables = positions - buffer.at(positions, I32, self.what)
        vtable = f"{self.what}: vtable"
        lengths = buffer.at(self.vtables, _U16, vtable).astype(np.int64)
        self.sizes = buffer.at(self.vtables + 2, _U16, vtable).astype(np.int64)
        buffer.expect_inside(positions, self.sizes, 1, self.what)
        buffer.expect_inside(self.vtables, lengths, 1, vtable)
        slots = (lengths - 4) // 2
        wrong = (lengths < 4) | (lengths & 1 != 0) | (self.sizes < 4) | (slots > MAX_SLOTS)
        self.expect_none(wrong, "has a damaged vtable")
        self.offsets = self.read_offsets(slots)
        for slot in range(len(self.offsets)):
            if slot >= len(kind.fields) or not kind.fields[slot]:
                self.expect_none(self.offsets[slot] != 0, f"has field {slot}, which edge-vlm-compress does not write")

    def read_offsets(self, slots: np.ndarray) -> np.ndarray:
        """Where each field lies in each table, by slot (slots, tables); 0 where it is absent."""
        slot = np.arange(max(int(slots.max(initial=0)), len(self.kind.fields)))[:, None]
        there = slot < slots
        entries = (self.vtables // 2 + 2 + slot) * there  # of the others the first, which is masked again
        return self.buffer.views[_U16][entries] * there.astype(np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    def expect_none(self, wrong: np.ndarray, problem: str) -> None:
        """``wrong`` (tables,)"""
        if np.count_nonzero(wrong):
            raise DamagedFile(f"{self.what} {int(np.argmax(wrong))} {problem}")

    def places(self, field: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Which tables have the field, and its positions in these."""
        offsets = self.offsets[self.kind.fields.index(field)]
        there = offsets.nonzero()[0]
        found = offsets[there]
        if np.count_nonzero((found < 4) | (found + size > self.sizes[there])):
            raise DamagedFile(f"{self.what}: {field}: outside of its table")
        return there, self.positions[there] + found

    def numbers(self, field: str, dtype: np.dtype, default: int = 0) -> np.ndarray:
        there, places = self.places(field, dtype.itemsize)
        values = np.full(len(self), default, np.uint64 if dtype == U64 else np.int64)
        values[there] = self.buffer.inside(places, dtype, f"{self.what}: {field}")
        return values

    def targets(self, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Which tables have the field, and what it refers to."""
        there, places = self.places(field, 4)
        return there, places + self.buffer.inside(places, U32, f"{self.what}: {field}").astype(np.int64)

    def spans(self, field: str, item_bytes: int, end_bytes: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """First byte and count of a vector in each table, count 0 where it is absent."""
        there, targets = self.targets(field)
        what = f"{self.what}: {field}"
        found = self.buffer.at(targets, U32, what).astype(np.int64)
        self.buffer.expect_inside(targets, 4 + found * item_bytes + end_bytes, 4, what)
        self.buffer.spend(4 + found * item_bytes, what)
        starts, counts = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        starts[there], counts[there] = targets + 4, found
        return starts, counts

    def lists(self, field: str, dtype: np.dtype) -> Lists:
        """A vector of numbers of at most 4 bytes."""
        starts, counts = self.spans(field, dtype.itemsize)
        first = np.cumsum(counts) - counts  # in the flat result
        places = np.repeat(starts // dtype.itemsize - first, counts) + np.arange(int(counts.sum()))
        return Lists(self.buffer.views[dtype][places], counts)

    def texts(self, field: str) -> Texts:
        """Strings, which must end with a zero byte; "" where absent."""
        starts, counts = self.spans(field, 1, end_bytes=1)
        self.expect_none((counts > 0) & (self.buffer.data[starts + counts] != 0), f"has a {field} without an end")
        return Texts(self.buffer.data, starts, counts)

    def children(self, field: str, kind: Kind, place: str = "") -> Tables:
        """The tables of a vector; of a batch those of all, one after the other."""
        return self.families(field, kind, place)[0]

    def families(self, field: str, kind: Kind, place: str = "") -> tuple[Tables, np.ndarray]:
        """As `children`, and how many of them each table has."""
        starts, counts = self.spans(field, 4)
        first = np.cumsum(counts) - counts
        places = np.repeat(starts - 4 * first, counts) + 4 * np.arange(int(counts.sum()))
        distances = self.buffer.views[U32][places // 4].astype(np.int64)
        return Tables(self.buffer, kind, places + distances, place), counts

    def single(self, field: str, kind: Kind, place: str = "") -> Tables:
        """The table that a field refers to in each table, which must be there."""
        there, targets = self.targets(field)
        if len(there) < len(self):
            raise DamagedFile(f"{self.what} has no {field}")
        return Tables(self.buffer, kind, targets, place)

    def rows(self, chosen: np.ndarray) -> Tables:
        """Some of them."""
        return Tables(self.buffer, self.kind, self.positions[chosen], self.what.removesuffix(self.kind.name))
