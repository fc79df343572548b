# SPDX-License-Identifier: Apache-2.0
"""Reads the polarity events of an AEDAT 3.1 file, the format of jAER and cAER recordings such as DVS128 Gesture.

A file is ASCII header lines that begin with ``#`` (the first one ``#!AER-DAT3.1``, the last one ``#!END-HEADER``),
then packets. A packet is a head of 28 bytes, little-endian: int16 event type (1: polarity), int16 source, int32 bytes
of one event, int32 offset of its time stamp, int32 overflows of the time stamp, int32 capacity, int32 number of
events, int32 number of valid ones; then the events. A polarity event is 8 bytes: uint32 data (bit 0 valid, bit 1
polarity, bits 2..16 y, bits 17..31 x) and int32 microseconds; time is ``overflows << 31`` plus that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vlm.errors import SourceError
from edge_vlm.observation import Events
from edge_vlm.sources.libcaer import inside_sensor

POLARITY_EVENT, EVENT_BYTES = 1, 8
MAX_HEADER_BYTES = 1 << 16
SENSORS = {"DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260),
           "DAVIS640": (640, 480)}  # fmt: skip
COPY_AGAIN = "copy or download the recording again"

_HEAD = np.dtype(
    [("type", "<i2"), ("source", "<i2"), ("event_bytes", "<i4"), ("stamp_offset", "<i4"), ("overflows", "<i4"),
     ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
)  # fmt: skip
_EVENT = np.dtype([("data", "<u4"), ("t_us", "<i4")])


@dataclass(frozen=True)
class _Packet:
    """Where the polarity events of one packet lie in the file, and how often their time had overflown."""

    start: int
    events: int
    overflows: int


def read_aedat(path: Path | str) -> Events:
    """All valid polarity events of the file, in time order; events off the sensor are left out.

    Other packets (frames, IMU, special events) are skipped. Everything is checked against the size of the file before
    memory is taken.

    Raises:
        SourceError: not such a file, cut, an unknown sensor, or without a polarity event.
    """
    path = Path(path)
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({error})", "name an .aedat file") from error
    begin, (width, height) = _read_header(path, data)
    packets = _polarity_packets(path, data, begin)
    raw = np.empty(sum(packet.events for packet in packets), _EVENT)
    t_us = np.empty(len(raw), np.int64)
    at = 0
    for packet in packets:
        here = slice(at, at + packet.events)
        raw[here] = data[packet.start : packet.start + packet.events * EVENT_BYTES].view(_EVENT)
        t_us[here] = raw["t_us"][here].astype(np.int64) + (packet.overflows << 31)
        at += packet.events
    word, valid = raw["data"], (raw["data"] & 1).astype(bool)
    word, t_us = word[valid], t_us[valid]
    events, _ = inside_sensor((word >> 17) & 0x7FFF, (word >> 2) & 0x7FFF, t_us, (word >> 1) & 1, width, height)
    if not len(events):
        raise SourceError(f"{path}: not one valid event on the {width}x{height} sensor", "name another recording")
    return _in_time_order(events)


def _read_header(path: Path, data: np.ndarray) -> tuple[int, tuple[int, int]]:
    """Where the packets begin, and the sensor's (width, height)."""
    text = data[:MAX_HEADER_BYTES].tobytes()
    if not text.startswith(b"#!AER-DAT"):
        raise SourceError(f"{path}: not an AEDAT file", "name an AEDAT 3.1 recording (.aedat)")
    version = text[len(b"#!AER-DAT") :].split(b"\n", 1)[0].strip().decode("ascii", "replace")
    if version != "3.1":
        raise SourceError(f"{path}: AEDAT version {version[:20]!r}; 3.1 can be read", "convert it, for example with dv")
    end = text.find(b"#!END-HEADER")
    line_end = text.find(b"\n", end)
    if end < 0 or line_end < 0:
        raise SourceError(f"{path}: the header has no end", COPY_AGAIN)
    return line_end + 1, _sensor_size(path, text[:end].decode("ascii", "replace"))


def _sensor_size(path: Path, header: str) -> tuple[int, int]:
    sources = [line.partition(":")[2].strip() for line in header.splitlines() if line.startswith("#Source")]
    for source in sources:
        for name, size in SENSORS.items():
            if source.upper().startswith(name):
                return size
    found = ", ".join(sources) or "none"
    raise SourceError(f"{path}: no known sensor in the header (sources: {found})", f"known are {', '.join(SENSORS)}")


def _polarity_packets(path: Path, data: np.ndarray, begin: int) -> list[_Packet]:
    """The packets of polarity events, every size checked."""
    packets, at = [], begin
    while at < data.size:
        if data.size - at < _HEAD.itemsize:
            raise SourceError(f"{path}: cut within the packet head at byte {at}", COPY_AGAIN)
        head = data[at : at + _HEAD.itemsize].view(_HEAD)[0]
        number, event_bytes = int(head["number"]), int(head["event_bytes"])
        body = at + _HEAD.itemsize
        if number < 0 or event_bytes <= 0 or head["type"] < 0 or head["overflows"] < 0:
            raise SourceError(f"{path}: impossible packet head at byte {at}", COPY_AGAIN)
        if number * event_bytes > data.size - body:
            raise SourceError(
                f"{path}: the packet at byte {at} says {number} events of {event_bytes} bytes, "
                f"{data.size - body} bytes are left: the file is cut",
                COPY_AGAIN,
            )
        if head["type"] == POLARITY_EVENT:
            if event_bytes != EVENT_BYTES:
                raise SourceError(f"{path}: polarity events of {event_bytes} bytes at byte {at}", COPY_AGAIN)
            packets.append(_Packet(body, number, int(head["overflows"])))
        at = body + number * event_bytes
    return packets


def _in_time_order(events: Events) -> Events:
    """Packets of several sources may interleave."""
    if not (np.diff(events.t_us) < 0).any():
        return events
    order = np.argsort(events.t_us, kind="stable")
    return Events(
        events.x[order], events.y[order], events.t_us[order], events.polarity[order], events.width, events.height
    )
