# SPDX-License-Identifier: Apache-2.0
"""The operator library's pass over what a token gate has at hand: the figures of a scene that a router decides on.

    measurer = load_scene_measurer()       # None where there is no library: measure with NumPy then
    found = measurer.measure(grid, frames, scores, context_debt, masks, features)

Some ten small sums over a few hundred patches: one by one they cost NumPy's call overhead each, in caches that the
encoder has just emptied. What the figures mean is said in edge_vlm/anc/features.py, whose NumPy is the reference.
"""

from __future__ import annotations

import ctypes
import math
import struct
from typing import NamedTuple

import numpy as np

from custom_ops.array_address import FLOATS, MASKS, REPORT, address_of, address_of_bytes
from custom_ops.errors import OperatorError
from custom_ops.library import find_function

FIGURES = 14
# As ``ScenePass`` in src/scene/scene_pass.h: sizes, arrays, numbers; then what is found.
_GIVEN, _FOUND = "6i 11P 2fi", f"{FIGURES}f 3f"
_PASS, _RESULT = struct.Struct(f"{_GIVEN} {_FOUND}"), struct.Struct(_FOUND)
_NOTHING_FOUND = (0.0,) * (FIGURES + 3)


class SceneFound(NamedTuple):
    """``figures`` in the order of ``SceneFeatures``; the shift in cells and its response."""

    figures: tuple[float, ...]
    shift_x: float
    shift_y: float
    shift_response: float


class SceneMeasurer:
    """The function ``edge_vlm_measure_scene`` of a loaded library."""

    def __init__(self, measure_scene) -> None:
        self._measure_scene = measure_scene

    def measure(
        self,
        grid: tuple[int, int],
        frames: tuple[np.ndarray, np.ndarray | None, np.ndarray],
        scores: np.ndarray,
        context_debt: np.ndarray,
        masks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        features: tuple[np.ndarray, np.ndarray] | None,
        pixels_per_cell: float,
        caption_confidence: float,
        frames_since_full: int,
    ) -> SceneFound:
        """What the library finds in a frame.

        frames: descriptors float32 ``(tokens, side * side, 3)`` of this frame, of the one before, and at each patch's
        last refresh. scores, context_debt: float32 ``(tokens,)``. masks: active, changed, was active, shallow, bool
        ``(tokens,)``. features: of the last whole encode and now, float32 ``(image_tokens, dim)``. Raises OperatorError
        for other arrays.
        """
        tokens, (now, previous, reference) = grid[0] * grid[1], frames
        cells, row = (tokens, now.shape[1], 3), (tokens,)
        side, shape = math.isqrt(now.shape[1]), (0, 1) if features is None else features[0].shape
        whole, latest = (0, 0) if features is None else (address_of(each, shape, FLOATS) for each in features)
        scene = bytearray(_PASS.size)
        _PASS.pack_into(
            scene,
            0,
            _PASS.size,
            *grid,
            side,
            *shape,
            address_of(now, cells, FLOATS),
            0 if previous is None else address_of(previous, cells, FLOATS),
            address_of(reference, cells, FLOATS),
            address_of(scores, row, FLOATS),
            *[address_of(mask, row, MASKS) for mask in masks],
            address_of(context_debt, row, FLOATS),
            whole,
            latest,
            pixels_per_cell,
            caption_confidence,
            frames_since_full,
            *_NOTHING_FOUND,
        )
        if side * side != now.shape[1] or self._measure_scene(address_of_bytes(scene)):
            raise OperatorError(f"a scene of {grid[0]} x {grid[1]} patches, descriptors {now.shape}: refused", REPORT)
        found = _RESULT.unpack_from(scene, _PASS.size - _RESULT.size)
        return SceneFound(found[:FIGURES], *found[FIGURES:])


def load_scene_measurer() -> SceneMeasurer | None:
    """The function of the library that is there; None without one."""
    function = find_function("edge_vlm_measure_scene", ctypes.c_void_p)
    return function and SceneMeasurer(function)
