# SPDX-License-Identifier: Apache-2.0
"""The ``mono`` packets of event_camera_msgs, a plain layout of early drivers.

8 bytes per event, the host's byte order: time in ns after ``time_base`` (bits 0..31), x (32..47),
y (48..62), polarity (63).
"""

from __future__ import annotations

import numpy as np

from edge_vlm.observation import Events
from edge_vlm.sources.libcaer import as_bytes, inside_sensor


def decode_mono(data, time_base: int, width: int, height: int, is_bigendian: bool = False) -> tuple[Events, int]:
    """One ``mono`` packet (``time_base`` in ns): its events, and how many lay outside the sensor."""
    flat = as_bytes(data)
    word = flat[: flat.size // 8 * 8].view(">u8" if is_bigendian else "<u8").astype(np.uint64)
    t_us = (time_base + (word & np.uint64(0xFFFFFFFF)).astype(np.int64)) // 1000
    x = (word >> np.uint64(32)) & np.uint64(0xFFFF)
    y = (word >> np.uint64(48)) & np.uint64(0x7FFF)
    return inside_sensor(x, y, t_us, word >> np.uint64(63), width, height)
