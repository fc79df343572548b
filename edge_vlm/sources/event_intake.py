# SPDX-License-Identifier: Apache-2.0
"""Event messages in, event windows out: decoding, sequence gaps and overload of one event topic."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_vlm.errors import InputError
from edge_vlm.observation import Events, EventWindow
from edge_vlm.sources.counted_packet import CountedPacket, counted_list
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_list import EventList, decode_event_list
from edge_vlm.sources.event_packets import EventPacketDecoder, check_sensor
from edge_vlm.sources.libcaer import inside_sensor
from edge_vlm.sources.pixel_events import PixelEvents


@dataclass
class EventIntake:
    """One event topic. A packet that cannot be decoded is counted in ``dropped`` under its reason; its window then
    says ``lost``. ``first_error`` keeps the first such reason in full."""

    accumulator: EventAccumulator = field(default_factory=EventAccumulator)
    decoder: EventPacketDecoder = field(default_factory=EventPacketDecoder)
    packets: int = 0
    events: int = 0
    outside: int = 0
    lost: int = 0
    overloads: int = 0
    dropped: Counter = field(default_factory=Counter)
    first_error: InputError | None = None
    _last_seq: int | None = None

    def add_packet(
        self, encoding: str, width: int, height: int, seq: int, time_base: int, data, is_bigendian: bool = False
    ) -> None:
        """One EventPacket (event_camera_msgs) or EventArray (event_array_msgs), in order of arrival."""
        self._follow_sequence(seq)
        try:
            if self.accumulator.overload:
                self.decoder.skip(encoding, width, height, data, is_bigendian)
                return
            self._read(encoding, width, height, time_base, data, is_bigendian)
        except InputError as error:
            self.drop(error)

    def add_list(self, message: EventList) -> None:
        """One dvs_msgs/EventArray, its events still serialised."""
        self.packets += 1
        try:
            check_sensor(message.width, message.height)
        except InputError as error:
            self.drop(error)
            return
        if not self.accumulator.overload:
            self._read_list(message)

    def _read_list(self, message: EventList) -> None:
        if self.decoder.counter is None:
            self._count(*decode_event_list(message))
        else:
            self._count_pixels(counted_list(self.decoder.counter, message, self.accumulator.counts))

    def add_events(self, events: Events) -> None:
        """One message whose events are already arrays; coordinates off the sensor are counted and left out."""
        self.packets += 1
        if not self.accumulator.overload:
            self._count(*inside_sensor(events.x, events.y, events.t_us, events.polarity, events.width, events.height))

    def drop(self, error: InputError) -> None:
        """One message that cannot be decoded."""
        self.dropped[error.what.partition(":")[0]] += 1
        self.first_error = self.first_error or error
        self.accumulator.add_lost(1)

    def take(self, duration_us: int | None = None) -> EventWindow:
        """The events since the last call, and how long that was where the caller knows."""
        window = self.accumulator.take(duration_us)
        self.overloads += window.overload
        return window

    def reset(self) -> None:
        """Forget the stream so far, as after a jump back in time; the counters stay."""
        self.accumulator.reset()
        self.decoder.reset()
        self._last_seq = None

    def _read(self, *packet) -> None:
        """One packet's events; their pixels are enough here."""
        self._count_pixels(self.decoder.count(*packet, counts=self.accumulator.counts))

    def _count(self, events: Events, outside: int) -> None:
        self._count_pixels(PixelEvents.of(events, outside))

    def _count_pixels(self, pixels: PixelEvents | CountedPacket) -> None:
        self.events += pixels.count
        self.outside += pixels.outside
        self.accumulator.add_pixels(pixels)

    def _follow_sequence(self, seq: int) -> None:
        """Count the packets missing before this one. A sequence that starts again (driver restart) loses none."""
        self.packets += 1
        if self._last_seq is not None and seq > self._last_seq + 1:
            missing = seq - self._last_seq - 1
            self.lost += missing
            self.accumulator.add_lost(missing)
        self._last_seq = seq
