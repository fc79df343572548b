# SPDX-License-Identifier: Apache-2.0
"""The operator library's event counter: packets of event cameras to events per pixel.

    counter = load_event_counter()                  # None where there is no library: count with NumPy then
    found = EventPass.over(Encoding.EVT3, width, height)
    counter.count(found, packet, pixels)            # events into int32 (height, width); found.count, found.outside

Counting is no operator of a graph, so it comes by a C function of its own. What the encodings mean is said in
edge_vlm/sources, whose NumPy decoders are the reference.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

import numpy as np

from custom_ops.array_address import REPORT
from custom_ops.errors import OperatorError
from custom_ops.library import find_function

NOT_SEEN = -1  # a register of an EVT3 stream that no word has set yet


class Encoding(IntEnum):
    """In the order of ``Encoding`` in src/events/event_pass.h."""

    EVT3 = 0
    LIBCAER = 1
    LIBCAER_CMP = 2
    MONO = 3
    EVENT_LIST_CDR = 4
    EVENT_LIST_ROS1 = 5


class EventPass(ctypes.Structure):
    """One way over one packet: the stream's registers before and after it, and what was found."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in ("struct_bytes", "encoding", "width", "height", "big_endian", "step")]
        + [(name, ctypes.c_int32) for name in ("y", "base_x", "base_polarity", "time_high", "time_low")]
        + [(name, ctypes.c_int64) for name in ("wraps", "time_base")]
        + [(name, ctypes.c_int64) for name in ("count", "outside", "unsynchronised", "unknown_words")]
        + [(name, ctypes.c_int64) for name in ("first_us", "last_us")]
    )

    @classmethod
    def over(cls, encoding: Encoding, width: int, height: int, big_endian: bool = False, time_base: int = 0):
        """A packet of a stream of which nothing is known yet."""
        made = cls(ctypes.sizeof(cls), encoding, width, height, big_endian, step=1, time_base=time_base)
        made.y = made.base_x = made.time_high = made.time_low = NOT_SEEN
        return made


class EventCounter:
    """The function ``edge_vlm_count_events`` of a loaded library."""

    def __init__(self, count_events) -> None:
        self._count_events = count_events

    def count(self, event_pass: EventPass, data: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Count the events of ``data`` uint8 (n,) into ``event_pass``, whose registers move on, and ``step`` for each
        into its pixel of ``counts`` int32 (height, width), if given. Raises OperatorError for other arrays."""
        sensor = (event_pass.height, event_pass.width)
        if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
            raise OperatorError(f"the packet is {data.dtype} {data.shape}, not bytes in a row", REPORT)
        if counts is not None and (counts.dtype != np.int32 or counts.shape != sensor or not counts.flags.c_contiguous):
            raise OperatorError(f"counts are {counts.dtype} {counts.shape}, not int32 {sensor} in one piece", REPORT)
        pixels = None if counts is None else counts.ctypes.data
        if self._count_events(ctypes.byref(event_pass), data.ctypes.data, data.size, pixels):
            raise OperatorError(
                f"events of a {sensor[1]}x{sensor[0]} sensor, encoding {event_pass.encoding}: refused",
                "check width and height in the camera driver",
            )


def load_event_counter() -> EventCounter | None:
    """The counter of the library that is there; None without one."""
    function = find_function(
        "edge_vlm_count_events", ctypes.POINTER(EventPass), ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p
    )
    return function and EventCounter(function)
