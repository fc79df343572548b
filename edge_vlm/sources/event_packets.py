# SPDX-License-Identifier: Apache-2.0
"""Event messages to events: one decoder per stream, whatever the camera's encoding.

The fields are those of event_camera_msgs/EventPacket and event_array_msgs/EventArray, which are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from custom_ops.event_counting import EventCounter, load_event_counter
from edge_vlm.errors import InputError
from edge_vlm.observation import Events
from edge_vlm.sources.counted_packet import CountedPacket, counted, counted_evt3
from edge_vlm.sources.evt3 import Evt3Decoder
from edge_vlm.sources.libcaer import decode_libcaer, decode_libcaer_cmp
from edge_vlm.sources.mono import decode_mono
from edge_vlm.sources.pixel_events import PixelEvents

ENCODINGS = ("evt3", "libcaer", "libcaer_cmp", "mono")
MAX_SENSOR_SIDE = 1 << 15  # the widest coordinate that any of the formats can hold
_MAX_TIME_BASE = 1 << 62  # in ns that is the year 2116


@dataclass
class EventPacketDecoder:
    """Decodes the packets of one topic in order. A change of sensor size or encoding starts a new stream.

    ``counter`` None: events are counted with NumPy.
    """

    counter: EventCounter | None = field(default_factory=load_event_counter, repr=False)
    evt3: Evt3Decoder | None = None
    _stream: tuple[str, int, int] = field(default=("", 0, 0), repr=False)

    def reset(self) -> None:
        """Forget the stream so far, as after a jump in the recording."""
        self.evt3 = None
        self._stream = ("", 0, 0)

    def decode(
        self, encoding: str, width: int, height: int, time_base: int, data, is_bigendian: bool = False
    ) -> tuple[Events, int]:
        """One packet's events, and how many had coordinates outside the sensor (left out).

        Raises:
            InputError: unknown encoding, impossible sensor size or time.
        """
        self._follow(encoding, width, height)
        if encoding == "evt3":
            return self.evt3.decode(data, is_bigendian)
        check_time_base(time_base)
        if encoding == "libcaer":
            return decode_libcaer(data, time_base, width, height)
        if encoding == "libcaer_cmp":
            return decode_libcaer_cmp(data, time_base, width, height)
        return decode_mono(data, time_base, width, height, is_bigendian)

    def count(
        self, encoding: str, width: int, height: int, time_base: int, data, is_bigendian: bool = False, counts=None
    ) -> PixelEvents | CountedPacket:
        """The pixels of one packet's events: many times quicker than ``decode``, and the stream goes on as after it.

        ``counts`` int32 (height, width): where the events may be added already, if they are not to be listed.

        Raises:
            InputError: unknown encoding, impossible sensor size or time.
        """
        self._follow(encoding, width, height)
        if encoding == "evt3":
            if self.counter is None:
                return self.evt3.count(data, is_bigendian)
            return counted_evt3(self.counter, self.evt3, data, is_bigendian, counts)
        check_time_base(time_base)
        if self.counter is None:
            return PixelEvents.of(*self.decode(encoding, width, height, time_base, data, is_bigendian))
        return counted(self.counter, encoding, width, height, time_base, data, is_bigendian, counts)

    def skip(self, encoding: str, width: int, height: int, data, is_bigendian: bool = False) -> None:
        """Follow the stream's time over a packet that nobody has the time to decode."""
        self._follow(encoding, width, height)
        if encoding == "evt3":
            self.evt3.skip(data, is_bigendian)

    def _follow(self, encoding: str, width: int, height: int) -> None:
        if (encoding, width, height) == self._stream:
            return
        if encoding not in ENCODINGS:
            raise InputError(f"unknown event encoding {encoding!r}", f"record one of: {', '.join(ENCODINGS)}")
        check_sensor(width, height)
        self._stream = (encoding, width, height)
        self.evt3 = Evt3Decoder(width, height) if encoding == "evt3" else None


def check_sensor(width: int, height: int) -> None:
    """Refuse sensor sizes that no event camera has.

    Raises:
        InputError: zero, negative or more than ``MAX_SENSOR_SIDE`` pixels on a side.
    """
    if not (0 < width <= MAX_SENSOR_SIDE and 0 < height <= MAX_SENSOR_SIDE):
        raise InputError(f"impossible event sensor: {width}x{height}", "check width and height in the camera driver")


def check_time_base(time_base: int) -> None:
    """Refuse a packet's ``time_base`` that no clock shows.

    Raises:
        InputError: 2**62 and more.
    """
    if not 0 <= time_base < _MAX_TIME_BASE:
        raise InputError(f"impossible time_base of a packet: {time_base}", "check the clock of the camera driver")
