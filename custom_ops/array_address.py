# SPDX-License-Identifier: Apache-2.0
"""Where an array lies, for functions of the operator library that are called beside its operators."""

from __future__ import annotations

import ctypes

import numpy as np

from custom_ops.errors import OperatorError

REPORT = "report this as a bug, with the traceback"
FLOATS, MASKS, BYTES = np.dtype(np.float32), np.dtype(bool), np.dtype(np.uint8)


def address_of(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Of the first number. Raises OperatorError for an array of another shape or type, or in pieces."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise OperatorError(f"an array is {array.dtype} {array.shape}, not {dtype} {shape} in one piece", REPORT)
    if not array.flags.writeable:
        return array.ctypes.data
    return address_of_bytes(array)  # half the time of array.ctypes


def address_of_bytes(writable: bytearray | np.ndarray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(writable))
