# SPDX-License-Identifier: Apache-2.0
"""The operator library's pass over what a token gate has at hand: the figures of a scene that a router decides on.

    measurer = load_scene_measurer()       # None where there is no library: measure with NumPy then
    found = measurer.measure(grid, frames, scores, context_debt, masks, features)

Some ten small sums over a few hundred patches: one by one they cost NumPy's call overhead each, in caches that the
encoder has just emptied. What the figures mean is said in edge_vlm/anc/features.py, whose NumPy is the reference.
"""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.library import find_library

REPORT = "report this as a bug, with the traceback"
FLOATS, MASK = np.dtype(np.float32), np.dtype(bool)
FIGURES = (
    "active_fraction",
    "fresh_fraction",
    "mean_change",
    "max_change",
    "mean_shift",
    "max_shift",
    "edge_density",
    "entropy_bits",
    "shallow_fraction",
    "context_debt_mean",
    "drift",
    "shift_x",
    "shift_y",
    "shift_response",
)


class ScenePass(ctypes.Structure):
    """As ``ScenePass`` in src/scene/scene_pass.h."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in ("struct_bytes", "rows", "cols", "side", "image_tokens", "dim")]
        + [(name, ctypes.c_void_p) for name in ("descriptors", "previous", "reference", "scores")]
        + [(name, ctypes.c_void_p) for name in ("active", "changed", "was_active", "shallow", "context_debt")]
        + [(name, ctypes.c_void_p) for name in ("features_whole", "features_now")]
        + [(name, ctypes.c_float) for name in FIGURES]
    )


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
    ) -> ScenePass:
        """The figures of a frame, see ``FIGURES``; the shift is in cells.

        frames: descriptors float32 ``(tokens, side * side, 3)`` of this frame, of the one before, and at each patch's
        last refresh. scores, context_debt: float32 ``(tokens,)``. masks: active, changed, was active, shallow, bool
        ``(tokens,)``. features: of the last whole encode and now, float32 ``(image_tokens, dim)``. Raises OperatorError
        for other arrays.
        """
        tokens, (now, previous, reference) = grid[0] * grid[1], frames
        cells, row = (tokens, now.shape[1], 3), (tokens,)
        side, shape = math.isqrt(now.shape[1]), (0, 1) if features is None else features[0].shape
        whole, latest = (None, None) if features is None else (_address(each, shape, FLOATS) for each in features)
        found = ScenePass(
            ctypes.sizeof(ScenePass),
            *grid,
            side,
            *shape,
            _address(now, cells, FLOATS),
            None if previous is None else _address(previous, cells, FLOATS),
            _address(reference, cells, FLOATS),
            _address(scores, row, FLOATS),
            *(_address(mask, row, MASK) for mask in masks),
            _address(context_debt, row, FLOATS),
            whole,
            latest,
        )
        if side * side != now.shape[1] or self._measure_scene(found):
            raise OperatorError(f"a scene of {grid[0]} x {grid[1]} patches, descriptors {now.shape}: refused", REPORT)
        return found


def _address(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> int:
    if array.dtype is not dtype or array.shape != shape or not array.flags.c_contiguous:
        raise OperatorError(f"an array is {array.dtype} {array.shape}, not {dtype} {shape} in one piece", REPORT)
    return array.__array_interface__["data"][0]  # without the Python object of array.ctypes


def load_scene_measurer() -> SceneMeasurer | None:
    """The function of the library that is there; None without one: it is not built for this."""
    try:
        path = find_library()
        return path and _measurer_of(path)
    except (OperatorError, OSError, AttributeError):  # AttributeError: a library from before it measured scenes
        return None


@functools.cache
def _measurer_of(path: Path) -> SceneMeasurer:
    function = ctypes.CDLL(str(path.resolve())).edge_vlm_measure_scene
    function.argtypes = [ctypes.POINTER(ScenePass)]
    function.restype = ctypes.c_int
    return SceneMeasurer(function)
