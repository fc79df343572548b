# SPDX-License-Identifier: Apache-2.0
"""EVT 3.0, the stream of Prophesee event cameras: decoder and encoder.

A stream of 16-bit little-endian words, type in the upper 4 bits (Prophesee, "EVT 3.0 format"):

    0 ADDR_Y       y in bits 0..10; holds until the next one
    2 ADDR_X       one event: x in bits 0..10, polarity in bit 11
    3 VECT_BASE_X  x and polarity of the vectors that follow
    4 VECT_12      12 pixels from the base on, one bit each; the base moves on by 12
    5 VECT_8       8 pixels likewise
    6 TIME_LOW     bits 0..11 of the time in us
    8 TIME_HIGH    bits 12..23; wraps every 2**24 us = 16.77 s
    7, 10, 14, 15  continued words, trigger, others: no pixel events, skipped

The decoder keeps y, base and time between packets, since a packet may begin anywhere in the stream.

``decode`` gives every event. ``count`` only their pixels, several times as fast: most words are ADDR_X, and what holds
for a run of them (row, time) is looked up once per run instead of once per event.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_vlm.observation import Events
from edge_vlm.sources.pixel_events import PixelEvents

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8
_SKIPPED = (7, 10, 14, 15)
_KNOWN = np.zeros(16, bool)
_KNOWN[[ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH, *_SKIPPED]] = True
_VECTOR_PIXELS = np.zeros(16, np.int64)
_VECTOR_PIXELS[[VECT_12, VECT_8]] = 12, 8
_OF_VECTORS = (VECT_BASE_X, VECT_12, VECT_8)
_NO_WORD = np.array([_SKIPPED[0] << 12], np.uint16)  # stands for what came before the packet
_IS_EVENT = np.zeros(16, bool)
_IS_EVENT[[ADDR_X, VECT_12, VECT_8]] = True
# Sensors send a time that is a few steps behind the one before without having wrapped; more than that is a wrap.
_HIGH_TIME_JITTER = 10
_UNKNOWN_US = -(1 << 60)  # no time that is known makes the sum positive


@dataclass
class Evt3State:
    """What one packet leaves to the next. None: not seen yet."""

    y: int | None = None
    base_x: int | None = None
    base_polarity: bool = False
    time_high: int | None = None
    time_low: int | None = None
    wraps: int = 0


@dataclass
class Evt3Decoder:
    """One EVT3 stream of a sensor of ``width`` x ``height`` pixels.

    ``unsynchronised`` counts events before the first full time and row, ``unknown_words`` words of no known type.
    """

    width: int
    height: int
    state: Evt3State = field(default_factory=Evt3State)
    unsynchronised: int = 0
    unknown_words: int = 0

    def reset(self) -> None:
        """Forget the stream so far; the counters stay."""
        self.state = Evt3State()

    def skip(self, data, is_bigendian: bool = False) -> None:
        """Follow the time of a packet without decoding its events; rows are known again from the next one on."""
        words = _words(data, is_bigendian)
        code, value = words >> 12, words & 0xFFF
        self._times(code, value, np.zeros(0, np.int64))
        self.state.y = self.state.base_x = None

    def decode(self, data, is_bigendian: bool = False) -> tuple[Events, int]:
        """The events of one packet, in stream order, and how many lay outside the sensor (left out).

        ``t_us`` counts from the sensor's last wrap before the first packet.
        """
        words = _words(data, is_bigendian)
        code, value = words >> 12, words & 0xFFF
        self.unknown_words += int(np.count_nonzero(~_KNOWN[code]))
        at = np.flatnonzero(_IS_EVENT[code])  # (e,) words that carry events
        t_us, timed = self._times(code, value, at)
        y, placed = self._rows(code, value, at)
        if np.isin(code, _OF_VECTORS).any():
            x, polarity, bits = self._vectors(code, value, at)
        else:
            x, polarity, bits = value[at] & 0x7FF, value[at] >= 0x800, np.ones(len(at), np.uint16)
        usable = timed & placed
        if not usable.all():
            self.unsynchronised += _bit_count(bits[~usable])
            bits = np.where(usable, bits, 0)
        word, pixel = _set_bits(bits)
        x, y = x[word] + pixel, y[word]
        inside = (x < self.width) & (y < self.height)
        outside = int(inside.size - np.count_nonzero(inside))
        if outside:
            word, x, y = word[inside], x[inside], y[inside]
        events = Events(x.astype(np.uint16), y.astype(np.uint16), t_us[word], polarity[word], self.width, self.height)
        return events, outside

    def count(self, data, is_bigendian: bool = False) -> PixelEvents:
        """The pixels of one packet's events: those of ``decode``, and the stream goes on as after it."""
        words = _words(data, is_bigendian)
        marks = np.flatnonzero(words - np.uint16(ADDR_X << 12) >= 0x1000)  # all words but ADDR_X; below 0 wraps
        heads = np.concatenate((_NO_WORD, words[marks]))  # each is followed by a run of ADDR_X, which may be empty
        runs = np.diff(np.concatenate(([-1], marks, [len(words)])))  # (h,) words of a run, the head included
        code, value = heads >> 12, heads & 0xFFF
        self.unknown_words += int(np.count_nonzero(~_KNOWN[code]))
        every = slice(None)
        t_us, timed = self._times(code, value, every)
        y, placed = self._rows(code, value, every)
        usable, size = timed & placed, self.width * self.height
        rows = np.where(usable & (y < self.height), y * self.width, size)  # flat index of the row's first pixel
        flat = self._singles(words, marks, rows, runs)
        count = int(np.count_nonzero(flat < size))
        bearing = usable & (runs > 1)
        synchronised = int((runs - 1)[bearing].sum())
        self.unsynchronised += len(words) - len(marks) - synchronised
        outside = synchronised - count
        if outside:
            bearing = np.zeros(len(heads), bool)
            bearing[np.repeat(np.arange(len(heads)), runs)[1:][flat < size]] = True
        if np.isin(code, _OF_VECTORS).any():
            at, more, off = self._vector_pixels(code, value, usable, rows)
            bearing[at] = True
            flat, count, outside = np.concatenate((flat, more)), count + len(more), outside + off
        t_us = t_us[np.flatnonzero(bearing)]
        span_us = (int(t_us.min()), int(t_us.max())) if len(t_us) else (0, 0)
        return PixelEvents(flat, count, outside, *span_us, self.width, self.height)

    def _singles(self, words, marks, rows, runs) -> np.ndarray:
        """Flat pixel of every word, int64 (n,); behind the sensor for those that are no ADDR_X or lie outside."""
        size = self.width * self.height
        x = words & 0x7FF
        x[marks] = 0
        flat = np.repeat(rows, runs)[1:]
        flat += x
        flat[marks] = size
        if len(x) and x.max() >= self.width:
            flat[x >= self.width] = size
        return flat

    def _vector_pixels(self, code, value, usable, rows) -> tuple[np.ndarray, np.ndarray, int]:
        """Words with vectors on the sensor, the flat pixels that those name, and how many lie outside."""
        at = np.flatnonzero(_VECTOR_PIXELS[code])
        x, _, bits = self._vectors(code, value, at)
        unusable = ~usable[at]
        if unusable.any():
            self.unsynchronised += _bit_count(bits[unusable])
            bits[unusable] = 0
        word, pixel = _set_bits(bits)
        x = x[word] + pixel
        row = rows[at[word]]
        inside = (x < self.width) & (row < self.width * self.height)
        return at[word[inside]], (row + x)[inside], int(inside.size - np.count_nonzero(inside))

    def _times(self, code, value, at) -> tuple[np.ndarray, np.ndarray]:
        """Time in us at each of the words ``at``, and whether it is known there."""
        state = self.state
        high, high_known = _held(code == TIME_HIGH, value, -1 if state.time_high is None else state.time_high)
        is_low = code == TIME_LOW
        back = np.diff(high) < -_HIGH_TIME_JITTER
        if state.time_high is None:
            is_low &= high_known > 0  # a low time says nothing before the first high time
            back[:1] = False  # and the first high time is no wrap
        wraps = state.wraps + np.concatenate(([0], np.cumsum(back)))
        low, low_known = _held(is_low, value, -1 if state.time_low is None else state.time_low)
        full = np.where(high < 0, _UNKNOWN_US, (wraps << 24) | (high << 12))
        t_us = full[high_known[at]] + np.where(low < 0, _UNKNOWN_US, low)[low_known[at]]
        state.time_high = int(high[-1]) if high[-1] >= 0 else None
        state.time_low = int(low[-1]) if low[-1] >= 0 else None
        state.wraps = int(wraps[-1])
        return t_us, t_us >= 0

    def _rows(self, code, value, at) -> tuple[np.ndarray, np.ndarray]:
        rows, held = _held(code == ADDR_Y, value & 0x7FF, -1 if self.state.y is None else self.state.y)
        self.state.y = int(rows[-1]) if rows[-1] >= 0 else None
        y = rows[held[at]]
        return y, y >= 0

    def _vectors(self, code, value, at) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First pixel, polarity, and pixels set from there on, for each of the words ``at``.

        Vectors without a base have no pixels; they are counted as unsynchronised.
        """
        state = self.state
        is_base = code == VECT_BASE_X
        base, held = _held(is_base, value, -1 if state.base_x is None else state.base_x | state.base_polarity << 11)
        moved = np.concatenate(([0], np.cumsum(_VECTOR_PIXELS[code])))  # pixels passed before each word
        moved_at_base = np.concatenate(([0], moved[:-1][is_base]))
        first_pixel = np.where(base >= 0, base & 0x7FF, 0) - moved_at_base
        single = code[at] == ADDR_X
        held_at = held[at]
        x = np.where(single, value[at] & 0x7FF, first_pixel[held_at] + moved[at])
        polarity = np.where(single, value[at], base[held_at]) & 0x800 != 0
        bits = np.where(single, 1, np.where(code[at] == VECT_8, value[at] & 0xFF, value[at]))
        baseless = ~single & (base[held_at] < 0)
        if baseless.any():
            self.unsynchronised += _bit_count(bits[baseless])
            bits[baseless] = 0
        if base[-1] >= 0:
            state.base_x = min(int(first_pixel[-1] + moved[-1]), 0x7FF)  # past the widest sensor all is outside
            state.base_polarity = bool(base[-1] & 0x800)
        return x, polarity, bits


def _words(data, is_bigendian: bool) -> np.ndarray:
    """The packet's words, uint16 (n,); an odd last byte is no word."""
    flat = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else np.ascontiguousarray(data)
    return flat[: flat.size // 2 * 2].view(">u2" if is_bigendian else "<u2").astype(np.uint16, copy=False)


def _held(is_set: np.ndarray, value: np.ndarray, before: int) -> tuple[np.ndarray, np.ndarray]:
    """A register of the stream: its values int64 (k + 1,), ``before`` first, and for each word which one holds."""
    set_at = np.flatnonzero(is_set)  # quicker than a boolean index
    values = np.concatenate(([before], value[set_at])).astype(np.int64)
    return values, np.cumsum(is_set, dtype=np.int32)


def _set_bits(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and bit number of every set bit of ``bits`` uint16 (e,), in order."""
    if (bits == 1).all():
        return np.arange(len(bits)), np.zeros(len(bits), np.int64)
    planes = np.unpackbits(bits.astype("<u2").view(np.uint8), bitorder="little")
    return np.divmod(np.flatnonzero(planes), 16)


def _bit_count(bits: np.ndarray) -> int:
    return int(np.unpackbits(bits.astype(np.uint16).view(np.uint8)).sum())


def encode_evt3(events: Events) -> bytes:
    """Events in time order as one EVT3 packet that can be decoded on its own.

    Writes time and row where they change and one ADDR_X per event (no vectors). Events of the same microsecond are
    sorted by row. Times are taken modulo 2**24 us.
    """
    if not len(events):
        return b""
    t_us = np.asarray(events.t_us, np.int64)
    order = np.lexsort((events.x, events.y, t_us))
    t_us = t_us[order] & 0xFFFFFF
    y = events.y[order].astype(np.uint16)
    words = np.empty((len(order), 4), np.uint16)  # TIME_HIGH, TIME_LOW, ADDR_Y, ADDR_X
    words[:, 0] = (TIME_HIGH << 12) | (t_us >> 12)
    words[:, 1] = (TIME_LOW << 12) | (t_us & 0xFFF)
    words[:, 2] = (ADDR_Y << 12) | (y & 0x7FF)
    words[:, 3] = (ADDR_X << 12) | (events.polarity[order].astype(np.uint16) << 11) | (events.x[order] & 0x7FF)
    written = np.ones(words.shape, bool)
    written[1:, :3] = words[1:, :3] != words[:-1, :3]
    written[:, 1] |= written[:, 0]  # a new high time is followed by its low time
    return words[written].astype("<u2").tobytes()
