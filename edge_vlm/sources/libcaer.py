# SPDX-License-Identifier: Apache-2.0
"""The two packet formats of iniVation cameras in event_camera_msgs: ``libcaer`` and ``libcaer_cmp``.

``libcaer`` is libcaer's polarity event, 8 bytes little-endian each: uint32 data (bit 0 valid, bit 1 polarity,
bits 2..16 y, bits 17..31 x), int32 time in us, which overflows at 2**31. The sensor time is the packet's
``time_base`` in ns plus that; ``time_base`` moves on with the overflows between packets.

``libcaer_cmp`` packs the same into 16-bit words, type in the upper 4 bits: 0 TIME_HIGH (bits 12..23 of the time
since the packet's ``time_base`` in us), 1 TIME_LOW, 2 ADDR_X (holds), 3 ADDR_Y (one event: y, polarity in bit 11),
4 VECT_BASE_Y, 5 VECT_8 (8 rows from the base on). Each packet stands on its own.
"""

from __future__ import annotations

import numpy as np

from edge_vlm.observation import Events

_EVENT = np.dtype([("data", "<u4"), ("t_us", "<i4")])
TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = range(6)


def as_bytes(data) -> np.ndarray:
    """Message bytes as uint8 (n,), in place where they are contiguous."""
    return np.ascontiguousarray(data) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)


def inside_sensor(x, y, t_us, polarity, width: int, height: int) -> tuple[Events, int]:
    """The events on the sensor, and how many were off it."""
    inside = (x < width) & (y < height)
    outside = int(inside.size - np.count_nonzero(inside))
    if outside:
        x, y, t_us, polarity = x[inside], y[inside], t_us[inside], polarity[inside]
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, polarity.astype(bool), width, height), outside


def decode_libcaer(data, time_base: int, width: int, height: int) -> tuple[Events, int]:
    """One ``libcaer`` packet (``time_base`` in ns): its events, and how many lay outside the sensor."""
    flat = as_bytes(data)
    raw = flat[: flat.size // 8 * 8].view(_EVENT)
    low = raw["t_us"].astype(np.int64)
    overflows = np.concatenate(([0], np.cumsum(np.diff(low) < 0))) if len(low) else low
    t_us = time_base // 1000 + low + (overflows << 31)
    word = raw["data"]
    return inside_sensor((word >> 17) & 0x7FFF, (word >> 2) & 0x7FFF, t_us, (word >> 1) & 1, width, height)


def decode_libcaer_cmp(data, time_base: int, width: int, height: int) -> tuple[Events, int]:
    """One ``libcaer_cmp`` packet (``time_base`` in us): its events, and how many lay outside the sensor."""
    flat = as_bytes(data)
    words = flat[: flat.size // 2 * 2].view("<u2").astype(np.int64)
    code, value = words >> 12, words & 0xFFF
    at = np.flatnonzero((code == ADDR_Y) | (code == VECT_8))
    t_us = time_base + ((_register(code == TIME_HIGH, value, at) << 12) | _register(code == TIME_LOW, value, at))
    x = _register(code == ADDR_X, value & 0x7FF, at)
    is_base = code == VECT_BASE_Y
    moved = np.concatenate(([0], np.cumsum(np.where(code == VECT_8, 8, 0))))[:-1]
    base = _register(is_base, (value & 0x7FF) - moved, at) + moved[at]
    single = code[at] == ADDR_Y
    y = np.where(single, value[at] & 0x7FF, base)
    polarity = np.where(single, value[at] >> 11, _register(is_base, value >> 11, at))
    bits = np.where(single, 1, value[at] & 0xFF)
    word, pixel = np.nonzero((bits[:, None] >> np.arange(8)) & 1)
    return inside_sensor(x[word], y[word] + pixel, t_us[word], polarity[word], width, height)


def _register(is_set: np.ndarray, value: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What was last written, 0 before the first time, at each of the words ``at``."""
    values = np.concatenate(([0], value[is_set]))
    return values[np.cumsum(is_set)[at]]
