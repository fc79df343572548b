# SPDX-License-Identifier: Apache-2.0
"""Serialised dvs_msgs/EventArray (and prophesee_event_msgs/EventArray, which is the same) to its fields.

One event is a message of its own there; a generic deserialiser makes an object of each, a hundred times slower than
the events come. So the head is read by hand and the events stay bytes for ``decode_event_list``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.observation import Events
from edge_vlm.sources.libcaer import as_bytes, inside_sensor

# dvs_msgs/Event {uint16 x, uint16 y, time ts, bool polarity} as ROS 1 writes it, and in CDR from the second
# event on: x is then at 2 modulo 4, so that ts needs 2 bytes of padding.
_ROS1_EVENT = np.dtype({"names": ["x", "y", "sec", "nsec", "polarity"], "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
                        "offsets": [0, 2, 4, 8, 12], "itemsize": 13})  # fmt: skip
_CDR_EVENT = {order: np.dtype({"names": ["x", "y", "sec", "nsec", "polarity"],
                               "formats": [f"{order}u2", f"{order}u2", f"{order}i4", f"{order}u4", "u1"],
                               "offsets": [0, 2, 6, 10, 14], "itemsize": 16}) for order in "<>"}  # fmt: skip


@dataclass(frozen=True)
class EventList:
    """``events`` are the bytes of ``count`` events, as CDR (``is_cdr``) or ROS 1 wrote them."""

    stamp_sec: int
    stamp_nanosec: int
    width: int
    height: int
    count: int
    events: memoryview
    is_cdr: bool
    big_endian: bool = False


def parse_event_list(data: bytes, ros1: bool) -> EventList:
    """The fields of one serialised dvs_msgs/EventArray.

    Raises:
        InputError: the message is shorter than it says.
    """
    try:
        parsed = _parse_ros1(data) if ros1 else _parse_cdr(data)
    except (struct.error, IndexError) as error:
        raise InputError("event array message without a complete head", "record the topic again") from error
    if len(parsed.events) < list_bytes(parsed.count, not ros1):
        raise InputError(
            f"cut event array message: it says {parsed.count} events and holds {len(parsed.events)} bytes",
            "record the topic again",
        )
    return parsed


def list_bytes(count: int, is_cdr: bool) -> int:
    """How many bytes ``count`` serialised events are."""
    return (count - 1) * (16 if is_cdr else 13) + 13 if count else 0  # the last one is 13 bytes long in both


def _parse_ros1(data: bytes) -> EventList:
    _, sec, nanosec, name_bytes = struct.unpack_from("<IIII", data)
    at = 16 + name_bytes
    height, width, count = struct.unpack_from("<III", data, at)
    return EventList(sec, nanosec, width, height, count, memoryview(data)[at + 12 :], is_cdr=False)


def _parse_cdr(data: bytes) -> EventList:
    order = "<" if data[1] & 1 else ">"
    body = memoryview(data)[4:]
    sec, nanosec, name_bytes = struct.unpack_from(f"{order}iII", body)
    at = -(-(12 + name_bytes) // 4) * 4
    height, width, count = struct.unpack_from(f"{order}III", body, at)
    return EventList(sec, nanosec, width, height, count, body[at + 12 :], is_cdr=True, big_endian=order == ">")


def decode_event_list(message: EventList) -> tuple[Events, int]:
    """The message's events, and how many lay outside the sensor (left out)."""
    flat, count = as_bytes(message.events), message.count
    raw = _cdr_events(flat, count, message.big_endian) if message.is_cdr else flat[: count * 13].view(_ROS1_EVENT)
    t_us = raw["sec"].astype(np.int64) * 1_000_000 + raw["nsec"].astype(np.int64) // 1000
    return inside_sensor(raw["x"], raw["y"], t_us, raw["polarity"] != 0, message.width, message.height)


def _cdr_events(flat: np.ndarray, count: int, big_endian: bool) -> np.ndarray:
    # The first event lies without padding (x y sec nsec polarity at 0 2 4 8 12); moving its times up by 2 bytes
    # gives it the layout of the others, which begin at 14 and every 16 bytes after.
    raw = np.zeros(count * 16, np.uint8)
    if count:
        raw[0:4], raw[6:15] = flat[0:4], flat[4:13]
        rest = flat[14 : 14 + (count - 1) * 16]
        raw[16 : 16 + rest.size] = rest
    return raw.view(_CDR_EVENT[">" if big_endian else "<"])
