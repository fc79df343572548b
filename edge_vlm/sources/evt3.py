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
_UNKNOWN = [1, 9, 11, 12, 13]
_OF_VECTORS = [VECT_BASE_X, VECT_12, VECT_8]
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
        self._times(words >> 12, words & 0xFFF, np.zeros(0, np.int64))
        self.state.y = self.state.base_x = None

    def decode(self, data, is_bigendian: bool = False) -> tuple[Events, int]:
        """The events of one packet, in stream order, and how many lay outside the sensor (left out).

        ``t_us`` counts from the sensor's last wrap before the first packet.
        """
        words = _words(data, is_bigendian)
        code, value = words >> 12, words & 0xFFF
        kinds = self._kinds(code)
        at = np.flatnonzero(_IS_EVENT[code])  # (e,) words that carry events
        t_us, y = self._registers(code, value, at)
        if kinds[_OF_VECTORS].any():
            x, polarity, bits = self._vectors(code, value, at)
        else:
            x, polarity, bits = value[at] & 0x7FF, value[at] >= 0x800, np.ones(len(at), np.uint16)
        word, pixel = _set_bits(self._synchronised(bits, t_us, y))
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
        runs = np.diff(np.concatenate(([-1], marks, [len(words)]))) - 1
        code, value = heads >> 12, heads & 0xFFF
        kinds, parts = self._kinds(code), []
        run_at = np.flatnonzero(runs > 0)
        vector_at = np.flatnonzero((code == VECT_12) | (code == VECT_8))
        t_us, y = self._registers(code, value, np.concatenate((run_at, vector_at)))
        if len(run_at):
            known = slice(None, len(run_at))
            parts.append(self._runs(words, marks, run_at, runs[run_at], t_us[known], y[known]))
        if kinds[_OF_VECTORS].any():
            x, _, bits = self._vectors(code, value, vector_at)
            parts.append(self._vector_pixels(x, bits, t_us[len(run_at) :], y[len(run_at) :]))
        return PixelEvents.joined(parts, self.width, self.height)

    def _runs(self, words, marks, heads, lengths, t_us, y) -> PixelEvents:
        """The events of runs of ADDR_X. Run i begins behind the mark ``heads[i] - 1`` (0: with the packet)."""
        begins = np.concatenate(([-1], marks))[heads] + 1
        known, size = (t_us >= 0) & (y >= 0), self.width * self.height
        rows = np.where(known & (y < self.height), y * self.width, size)  # flat index of the row's first pixel
        flat = np.repeat(rows, np.diff(begins, append=len(words)))  # for every word from the first run on
        x, others = words[begins[0] :] & 0x7FF, marks[heads[0] :] - begins[0]
        x[others] = 0
        flat += x
        flat[others] = size
        off = y.max() >= self.height or x.max() >= self.width
        if off:
            flat[x >= self.width] = size
        timed = int(lengths[known].sum())
        count = int(np.count_nonzero(flat < size)) if off else timed
        self.unsynchronised += int(lengths.sum()) - timed
        if count < timed:
            known = np.logical_or.reduceat(flat < size, begins - begins[0])
        return PixelEvents.spanning(t_us[known], flat, count, timed - count, self.width, self.height)

    def _vector_pixels(self, x, bits, t_us, y) -> PixelEvents:
        """The events of vectors; arguments as of ``_vectors``, one entry for each."""
        bits = self._synchronised(bits, t_us, y)
        word, pixel = _set_bits(bits)
        flat, bearing = (y * self.width + x)[word] + pixel, bits > 0
        if x.max(initial=0) + 12 > self.width or y.max(initial=0) >= self.height:
            inside = (x[word] + pixel < self.width) & (y[word] < self.height)
            flat, bearing = flat[inside], np.isin(np.arange(len(bits)), word[inside])
        return PixelEvents.spanning(t_us[bearing], flat, len(flat), len(word) - len(flat), self.width, self.height)

    def _kinds(self, code) -> np.ndarray:
        """How many words of each type there are (16,)."""
        kinds = np.bincount(code, minlength=16)
        self.unknown_words += int(kinds[_UNKNOWN].sum())
        return kinds

    def _registers(self, code, value, at) -> tuple[np.ndarray, np.ndarray]:
        """Time in us and row at the words ``at``, each negative where it is not known yet."""
        rows, lengths = _held(code == ADDR_Y, value & 0x7FF, self.state.y)
        self.state.y = _known(rows[-1])
        return self._times(code, value, at), np.repeat(rows, lengths)[at]

    def _times(self, code, value, at) -> np.ndarray:
        state = self.state
        high, high_lengths = _held(code == TIME_HIGH, value, state.time_high)
        is_low, back = code == TIME_LOW, np.diff(high) < -_HIGH_TIME_JITTER
        if state.time_high is None:
            is_low[: high_lengths[0]] = False  # a low time says nothing before the first high time
            back[:1] = False  # and the first high time is no wrap
        low, low_lengths = _held(is_low, value, state.time_low)
        wraps = state.wraps + np.concatenate(([0], np.cumsum(back)))
        state.time_high, state.time_low, state.wraps = _known(high[-1]), _known(low[-1]), int(wraps[-1])
        high = np.where(high < 0, _UNKNOWN_US, (wraps << 24) | (high << 12))
        low = np.where(low < 0, _UNKNOWN_US, low)
        return np.repeat(high, high_lengths)[at] + np.repeat(low, low_lengths)[at]

    def _synchronised(self, bits, t_us, y) -> np.ndarray:
        """``bits`` without those of the words whose time or row is not known; they are counted."""
        known = (t_us >= 0) & (y >= 0)
        if known.all():
            return bits
        self.unsynchronised += _bit_count(bits[~known])
        return np.where(known, bits, 0)

    def _vectors(self, code, value, at) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First pixel, polarity, and pixels set from there on, for each of the words ``at``.

        Vectors without a base have no pixels; they are counted as unsynchronised.
        """
        state = self.state
        is_base = code == VECT_BASE_X
        base, lengths = _held(
            is_base, value, None if state.base_x is None else state.base_x | state.base_polarity << 11
        )
        pixels = (code == VECT_12) * np.uint8(12) + (code == VECT_8) * np.uint8(8)
        moved = np.cumsum(pixels, dtype=np.int64)  # pixels passed behind each word
        first_pixel = np.where(base < 0, 0, base & 0x7FF) - np.concatenate(([0], moved[np.flatnonzero(is_base)]))
        single, value_at, base_at = code[at] == ADDR_X, value[at], np.repeat(base, lengths)[at]
        x = np.where(single, value_at & 0x7FF, np.repeat(first_pixel, lengths)[at] + moved[at] - pixels[at])
        polarity = np.where(single, value_at, base_at) & 0x800 != 0
        bits = np.where(single, 1, np.where(code[at] == VECT_8, value_at & 0xFF, value_at))
        baseless = ~single & (base_at < 0)
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


def _held(is_set: np.ndarray, value: np.ndarray, before: int | None) -> tuple[np.ndarray, np.ndarray]:
    """A register of the stream: its values int64 (k + 1,), first ``before`` or -1, and how many words each holds."""
    set_at = np.flatnonzero(is_set)
    values = np.concatenate(([-1 if before is None else before], value[set_at])).astype(np.int64)
    return values, np.diff(np.concatenate(([0], set_at, [len(is_set)])))


def _known(value: int) -> int | None:
    return int(value) if value >= 0 else None


def _set_bits(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and bit number of every set bit of ``bits`` uint16 (e,), in order."""
    if (bits == 1).all():
        return np.arange(len(bits)), np.zeros(len(bits), np.int64)
    planes = np.unpackbits(bits.astype("<u2").view(np.uint8), bitorder="little").view(bool)
    at = np.flatnonzero(planes)
    return at >> 4, at & 15


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
