# SPDX-License-Identifier: Apache-2.0
"""Event packets counted by the operator library: what ``PixelEvents`` says of a packet, without its pixels as a list.

Nothing is kept for an event: it is added to its pixel while the packet is read. A packet that turns out to be too
many events is read once more to take it back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.event_counting import NOT_SEEN, Encoding, EventCounter, EventPass
from edge_vlm.sources.event_list import EventList, list_bytes
from edge_vlm.sources.evt3 import Evt3Decoder, Evt3State
from edge_vlm.sources.libcaer import as_bytes

_ENCODINGS = {"libcaer": Encoding.LIBCAER, "libcaer_cmp": Encoding.LIBCAER_CMP, "mono": Encoding.MONO}


@dataclass(frozen=True)
class CountedPacket:
    """``count`` events on a sensor of ``width`` x ``height`` pixels between ``first_us`` and ``last_us``;
    ``outside`` more lay off the sensor."""

    count: int
    outside: int
    first_us: int
    last_us: int
    width: int
    height: int
    _counter: EventCounter
    _before: EventPass
    _data: np.ndarray

    _added: bool

    def put_into(self, counts: np.ndarray) -> None:
        """Have the events added to their pixels in ``counts`` int32 (height, width), if they are not yet there."""
        if not self._added:
            self._go_over(counts, 1)

    def keep_out_of(self, counts: np.ndarray) -> None:
        """Take the events out of ``counts``, if they are there."""
        if self._added:
            self._go_over(counts, -1)

    def counts(self) -> np.ndarray:
        """Events of every pixel, int32 (height, width)."""
        counts = np.zeros((self.height, self.width), np.int32)
        self._go_over(counts, 1)
        return counts

    def _go_over(self, counts: np.ndarray, step: int) -> None:
        again = EventPass.from_buffer_copy(self._before)
        again.step = step
        self._counter.count(again, self._data, counts)


# ``counts`` below: where the events are to go at once, None, or of another sensor: then they wait for ``put_into``.


def counted(
    counter: EventCounter, encoding: str, width: int, height: int, time_base: int, data, is_bigendian: bool, counts=None
) -> CountedPacket:
    """A packet that stands on its own: any encoding but ``evt3``."""
    before = EventPass.over(_ENCODINGS[encoding], width, height, is_bigendian, time_base)
    return _counted(counter, before, as_bytes(data), counts)[0]


def counted_list(counter: EventCounter, message: EventList, counts=None) -> CountedPacket:
    """A dvs_msgs/EventArray."""
    encoding = Encoding.EVENT_LIST_CDR if message.is_cdr else Encoding.EVENT_LIST_ROS1
    before = EventPass.over(encoding, message.width, message.height, message.big_endian)
    data = as_bytes(message.events)[: list_bytes(message.count, message.is_cdr)]
    return _counted(counter, before, data, counts)[0]


def counted_evt3(
    counter: EventCounter, decoder: Evt3Decoder, data, is_bigendian: bool = False, counts=None
) -> CountedPacket:
    """What ``decoder.count`` says of a packet; the decoder's stream goes on as after it."""
    before = _registers(decoder, is_bigendian)
    packet, after = _counted(counter, before, as_bytes(data), counts)
    decoder.state = _state(after)
    decoder.unsynchronised += after.unsynchronised
    decoder.unknown_words += after.unknown_words
    return packet


def _counted(counter: EventCounter, before: EventPass, data: np.ndarray, counts) -> tuple[CountedPacket, EventPass]:
    after = EventPass.from_buffer_copy(before)
    added = counts is not None and counts.shape == (before.height, before.width)
    counter.count(after, data, counts if added else None)
    found = (after.count, after.outside, after.first_us, after.last_us, after.width, after.height)
    return CountedPacket(*found, counter, before, data, added), after


def _registers(decoder: Evt3Decoder, is_bigendian: bool) -> EventPass:
    registers, state = EventPass.over(Encoding.EVT3, decoder.width, decoder.height, is_bigendian), decoder.state
    for name in ("y", "base_x", "time_high", "time_low"):
        value = getattr(state, name)
        setattr(registers, name, NOT_SEEN if value is None else value)
    registers.base_polarity, registers.wraps = state.base_polarity, state.wraps
    return registers


def _state(registers: EventPass) -> Evt3State:
    values = (registers.y, registers.base_x, registers.time_high, registers.time_low)
    y, base_x, time_high, time_low = (None if value == NOT_SEEN else value for value in values)
    return Evt3State(y, base_x, bool(registers.base_polarity), time_high, time_low, registers.wraps)
