# SPDX-License-Identifier: Apache-2.0
"""The operator library's look at a camera's image: its cells, and how far each patch is from what is remembered of it.

    looker = load_frame_looker()      # None where there is no library: look with NumPy and OpenCV then
    seen = looker.look(image, grid, remembered)

What it all means is said in edge_vlm/sttf/change.py and illumination.py, which are the reference and what serves where
the light has changed.
"""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

import numpy as np

from custom_ops.array_address import BYTES, FLOATS, REPORT, address_of, address_of_bytes
from custom_ops.errors import OperatorError
from custom_ops.library import find_function

CELLS = 4  # a descriptor holds the mean colour of 4 x 4 cells of its patch
CHANNELS = 3
SAMPLE_STEP = 9  # every ninth cell tells of the light; coprime with CELLS, so that all cell positions occur
MOST_PIXELS_OF_CELL = 128
# As ``FrameLook`` in src/scene/frame_look.h: sizes, limits and light, arrays; then what is found.
_GIVEN, _FOUND = "6i 9f 11P", struct.Struct("f2i")
_LOOK, _FOUND_AT = struct.Struct(f"{_GIVEN} f2i 0P"), struct.calcsize(_GIVEN)


class Remembered(NamedTuple):
    """What a stream knows before a frame. Grey levels, float32.

    reference ``(tokens, 16, 3)``: descriptors at each patch's last refresh, seen under ``gain, offset (tokens, 3)``;
    previous: those of the frame before. light: ``gain (3,), offset (3,)`` of the frame before. expected, sampled:
    samples ``(3, samples)`` as that light would show them, and of the frame before. None before the first frame.
    """

    reference: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    light: tuple[np.ndarray, np.ndarray]
    previous: np.ndarray | None
    expected: np.ndarray | None
    sampled: np.ndarray | None
    noise_levels: float
    gain_max: float
    offset_max: float


class Seen(NamedTuple):
    """descriptors float32 ``(tokens, 16, 3)``; sample ``(3, samples)``; their mean grey level.

    change, step: RMS difference of each patch against ``reference`` and ``previous`` ``(tokens,)``, in grey levels, in
    so far as the light is the one of ``expected`` (as_expected) or of ``sampled`` (as_before). None where nothing was
    compared.
    """

    descriptors: np.ndarray
    sample: np.ndarray
    mean_level: float
    change: np.ndarray | None = None
    step: np.ndarray | None = None
    as_expected: bool = False
    as_before: bool = False


class FrameLooker:
    """The function ``edge_vlm_look`` of a loaded library."""

    def __init__(self, look) -> None:
        self._look = look

    def can_look(self, image: np.ndarray, grid: tuple[int, int]) -> bool:
        """Not at images of less than a pixel per cell, or of very many."""
        return all(
            CELLS * cells <= pixels <= MOST_PIXELS_OF_CELL * CELLS * cells
            for pixels, cells in zip(image.shape, grid, strict=False)
        )

    def look(self, image: np.ndarray, grid: tuple[int, int], known: Remembered) -> Seen:
        """``image``: uint8 ``(height, width, 3)``. Raises OperatorError for other arrays than `Remembered` says."""
        tokens, image = grid[0] * grid[1], np.ascontiguousarray(image)
        cells = (tokens, CELLS * CELLS, CHANNELS)
        samples = (CHANNELS, -(-tokens * CELLS * CELLS // SAMPLE_STEP))
        descriptors, sample = np.empty(cells, np.float32), np.empty(samples, np.float32)
        change, step = np.empty((2, tokens), np.float32)
        frame = bytearray(_LOOK.size)
        _LOOK.pack_into(
            frame,
            0,
            _LOOK.size,
            *image.shape[:2],
            *grid,
            SAMPLE_STEP,
            known.noise_levels,
            known.gain_max,
            known.offset_max,
            *known.light[0].tolist(),
            *known.light[1].tolist(),
            address_of(image, (*image.shape[:2], CHANNELS), BYTES),
            address_of(known.reference, cells, FLOATS),
            address_of(known.gain, (tokens, CHANNELS), FLOATS),
            address_of(known.offset, (tokens, CHANNELS), FLOATS),
            0 if known.previous is None else address_of(known.previous, cells, FLOATS),
            0 if known.expected is None else address_of(known.expected, samples, FLOATS),
            0 if known.sampled is None else address_of(known.sampled, samples, FLOATS),
            address_of(descriptors, cells, FLOATS),
            address_of(sample, samples, FLOATS),
            address_of(change, (tokens,), FLOATS),
            address_of(step, (tokens,), FLOATS),
            0.0,
            0,
            0,
        )
        if self._look(address_of_bytes(frame)):
            raise OperatorError(f"an image of {image.shape} on {grid[0]} x {grid[1]} patches: refused", REPORT)
        mean_level, as_expected, as_before = _FOUND.unpack_from(frame, _FOUND_AT)
        return Seen(descriptors, sample, mean_level, change, step, bool(as_expected), bool(as_before))


def load_frame_looker() -> FrameLooker | None:
    """The function of the library that is there; None without one."""
    function = find_function("edge_vlm_look", ctypes.c_void_p)
    return function and FrameLooker(function)
