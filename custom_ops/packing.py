# SPDX-License-Identifier: Apache-2.0
"""The canonical layout of quantised weights: what .tflite files hold and every kernel reads.

A matrix of codes (N, K) is cut into blocks of 16 output rows by ``block_width`` inputs, 64 bytes each; blocks of
the same 16 rows follow one another, so a kernel reads one sequential stream per 16 outputs::

    TERNARY  [ceil(N/16)][ceil(K/16)][64]  byte (lane, i) holds k = 16 kb + 4 j + i in bits 2j, 2j+1; code w + 1
    BINARY   [ceil(N/16)][ceil(K/32)][64]  byte (lane, i) holds k = 32 kb + 4 j + i in bit j; code (w + 1) / 2
    INT8     [ceil(N/16)][ceil(K/4)][64]   byte (lane, i) holds k = 4 kb + i as int8

with lane = n % 16, i = 0..3 and byte (lane, i) at ``lane * 4 + i``. Padding holds weight 0 (BINARY: code 0), and
kernels pad activations with zeros, so it never counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.spec import BLOCK_BYTES, BLOCK_ROWS, WeightFormat

QUAD = 4  # consecutive inputs that share one lane of a block: what a dot-product instruction takes
MAX_CODE = {WeightFormat.TERNARY: 1, WeightFormat.BINARY: 1, WeightFormat.INT8: 127}
BITS = {WeightFormat.TERNARY: 2, WeightFormat.BINARY: 1, WeightFormat.INT8: 8}


@dataclass(frozen=True)
class PackedWeights:
    """A packed matrix (out_features, in_features); ``data`` is uint8, flat."""

    format: WeightFormat
    out_features: int
    in_features: int
    data: np.ndarray


def block_width(weight_format: WeightFormat) -> int:
    """Inputs in one block: 16 for TERNARY, 32 for BINARY, 4 for INT8."""
    return QUAD * 8 // BITS[weight_format]


def packed_bytes(weight_format: WeightFormat, out_features: int, in_features: int) -> int:
    """Size of a packed matrix."""
    width = block_width(weight_format)
    return -(-out_features // BLOCK_ROWS) * -(-in_features // width) * BLOCK_BYTES


def pack(codes: np.ndarray, weight_format: WeightFormat) -> PackedWeights:
    """Pack codes (N, K): {-1, 0, 1} TERNARY, {-1, 1} BINARY, -127..127 INT8. Raises OperatorError for others."""
    weight_format = WeightFormat(weight_format)
    check_codes(codes, weight_format)
    rows, columns = codes.shape
    planes, bits = 8 // BITS[weight_format], BITS[weight_format]
    row_blocks, column_blocks = -(-rows // BLOCK_ROWS), -(-columns // block_width(weight_format))
    padded = np.full((row_blocks * BLOCK_ROWS, column_blocks * block_width(weight_format)), padding_of(weight_format))
    padded[:rows, :columns] = codes
    stored = to_stored(padded, weight_format)
    # (row block, lane, column block, plane j, i) -> (row block, column block, lane, i, plane j)
    split = stored.reshape(row_blocks, BLOCK_ROWS, column_blocks, planes, QUAD).transpose(0, 2, 1, 4, 3)
    data = np.zeros(split.shape[:-1], np.uint8)
    for plane in range(planes):
        data |= split[..., plane] << np.uint8(bits * plane)
    return PackedWeights(weight_format, rows, columns, data.reshape(-1))


def unpack(packed: PackedWeights) -> np.ndarray:
    """The codes, int8 (N, K). Raises OperatorError where the data's size does not fit."""
    weight_format, bits = WeightFormat(packed.format), BITS[packed.format]
    expected = packed_bytes(weight_format, packed.out_features, packed.in_features)
    if packed.data.size != expected:
        shape = f"{weight_format.name} ({packed.out_features}, {packed.in_features})"
        raise OperatorError(f"{packed.data.size} bytes of packed weights, {shape} takes {expected}")
    row_blocks = -(-packed.out_features // BLOCK_ROWS)
    data = packed.data.view(np.uint8).reshape(row_blocks, -1, BLOCK_ROWS, QUAD)
    planes = [(data >> np.uint8(bits * plane)) & np.uint8(2**bits - 1) for plane in range(8 // bits)]
    # (row block, column block, lane, i, plane j) -> (row block, lane, column block, plane j, i)
    stored = np.stack(planes, -1).transpose(0, 2, 1, 4, 3).reshape(row_blocks * BLOCK_ROWS, -1)
    return from_stored(stored[: packed.out_features, : packed.in_features], weight_format)


def check_codes(codes: np.ndarray, weight_format: WeightFormat) -> None:
    if weight_format not in MAX_CODE:
        raise OperatorError(f"{weight_format.name} weights are not packed")
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise OperatorError(f"codes are {codes.dtype} of shape {codes.shape}, expected int8 (N, K)")
    limit = MAX_CODE[weight_format]
    if codes.size and (int(codes.max()) > limit or int(codes.min()) < -limit):
        raise OperatorError(
            f"{weight_format.name} codes lie in {codes.min()}..{codes.max()}, allowed -{limit}..{limit}"
        )
    if weight_format == WeightFormat.BINARY and not codes.all():
        raise OperatorError("BINARY codes hold zeros, allowed are -1 and 1")


def padding_of(weight_format: WeightFormat) -> np.int8:
    return np.int8(-1 if weight_format == WeightFormat.BINARY else 0)  # stored as 0 by BINARY


def to_stored(codes: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    if weight_format == WeightFormat.INT8:
        return codes.view(np.uint8)
    offset = (codes + np.int8(1)).view(np.uint8)
    return offset >> np.uint8(1) if weight_format == WeightFormat.BINARY else offset


def from_stored(stored: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    stored = np.ascontiguousarray(stored).view(np.int8)
    if weight_format == WeightFormat.INT8:
        return stored
    return stored * np.int8(2) - np.int8(1) if weight_format == WeightFormat.BINARY else stored - np.int8(1)
