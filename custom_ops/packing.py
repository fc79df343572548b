# SPDX-License-Identifier: Apache-2.0
"""The canonical layout of quantised weights: what .tflite files hold and every kernel reads.

A matrix of codes (N, K) is cut into blocks of 16 output rows by ``block_width`` inputs; blocks of the same 16 rows
follow one another, so a kernel reads one sequential stream per 16 outputs::

    TERNARY  [ceil(N/16)][ceil(K/16)][64]  byte (lane, i) holds k = 16 kb + 4 j + i in bits 2j, 2j+1; code w + 1
    BINARY   [ceil(N/16)][ceil(K/32)][64]  byte (lane, i) holds k = 32 kb + 4 j + i in bit j; code (w + 1) / 2
    INT8     [ceil(N/16)][ceil(K/4)][64]   byte (lane, i) holds k = 4 kb + i as int8
    INT2     as TERNARY, code w + 2
    INT4     [ceil(N/16)][ceil(K/8)][64]   byte (lane, i) holds k = 8 kb + 4 j + i in bits 4j..4j+3; code w + 8
    INT3     [ceil(N/16)][ceil(K/32)][192] code w + 4: its low two bits as two blocks of TERNARY, its high bit as BINARY
    TERNARY_DENSE  [ceil(N/16)][ceil(K/20)][64]  byte (lane, i) holds k = 20 kb + 4 j + i, j = 0..4, see `dense_bytes`

with lane = n % 16, i = 0..3 and byte (lane, i) at ``lane * 4 + i`` of 64. Padding holds weight 0 (BINARY: code 0), and
kernels pad activations with zeros, so it never counts.

Group scales and zero points (N, ceil(K/group_size)) lie as [ceil(N/16)][ceil(K/group_size)][16], padding 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.spec import BLOCK_BYTES, BLOCK_ROWS, GROUP_MULTIPLE, WeightFormat

QUAD = 4  # consecutive inputs that share one lane of a block: what a dot-product instruction takes
LIMITS = {  # smallest and largest code
    WeightFormat.TERNARY: (-1, 1),
    WeightFormat.BINARY: (-1, 1),
    WeightFormat.INT8: (-127, 127),
    WeightFormat.INT2: (-2, 1),
    WeightFormat.INT3: (-4, 3),
    WeightFormat.INT4: (-8, 7),
    WeightFormat.TERNARY_DENSE: (-1, 1),
}
BLOCK_WIDTH = {  # inputs in one block
    WeightFormat.TERNARY: 16,
    WeightFormat.BINARY: 32,
    WeightFormat.INT8: 4,
    WeightFormat.INT2: 16,
    WeightFormat.INT3: 32,
    WeightFormat.INT4: 8,
    WeightFormat.TERNARY_DENSE: 20,
}
PLANE_BITS = {  # bits of a code, of formats whose bytes are planes of codes
    WeightFormat.TERNARY: 2,
    WeightFormat.BINARY: 1,
    WeightFormat.INT8: 8,
    WeightFormat.INT2: 2,
    WeightFormat.INT4: 4,
}


@dataclass(frozen=True)
class PackedWeights:
    """A packed matrix (out_features, in_features); ``data`` is uint8, flat."""

    format: WeightFormat
    out_features: int
    in_features: int
    data: np.ndarray


@dataclass(frozen=True)
class Groups:
    """Scales and zero points of every ``size`` inputs of a matrix, ``weight = (code - zero) * scale * row scale``.

    ``scale`` float16 (N, groups), relative to the scale of its row; ``zero`` int8 (N, groups), or None for zeros.
    """

    size: int
    scale: np.ndarray
    zero: np.ndarray | None = None

    @staticmethod
    def of(scale: np.ndarray, size: int, zero: np.ndarray | None = None) -> tuple[np.ndarray, Groups]:
        """The scale of each row (N,), float32, and its groups, from positive scales (N, groups).

        The largest group of a row gets 1, so that float16 is precise whatever the scales' magnitude.
        """
        row = scale.max(axis=1).astype(np.float32)
        relative = scale / np.where(row > 0, row, 1)[:, None]
        return row, Groups(size, relative.astype(np.float16), None if zero is None else zero.astype(np.int8))

    def columns(self, in_features: int) -> tuple[np.ndarray, np.ndarray]:
        """Scale float32 and zero of every weight, each (N, K)."""
        index = np.arange(in_features) // self.size
        scale = self.scale.astype(np.float32)[:, index]
        return scale, np.zeros(scale.shape, np.int8) if self.zero is None else self.zero[:, index]

    def packed(self) -> list[np.ndarray]:
        """The constants behind an operator's ``scale``."""
        return [pack_groups(part) for part in (self.scale, self.zero) if part is not None]


def block_width(weight_format: WeightFormat) -> int:
    """Inputs in one block."""
    return BLOCK_WIDTH[weight_format]


def block_bytes(weight_format: WeightFormat) -> int:
    """192 for INT3 (three planes' blocks), else 64."""
    return 3 * BLOCK_BYTES if weight_format == WeightFormat.INT3 else BLOCK_BYTES


def packed_bytes(weight_format: WeightFormat, out_features: int, in_features: int) -> int:
    """Size of a packed matrix."""
    blocks = -(-out_features // BLOCK_ROWS) * -(-in_features // block_width(weight_format))
    return blocks * block_bytes(weight_format)


def pack(codes: np.ndarray, weight_format: WeightFormat) -> PackedWeights:
    """Pack codes (N, K), int8 in the range of their format (`LIMITS`). Raises OperatorError for others."""
    weight_format = WeightFormat(weight_format)
    check_codes(codes, weight_format)
    rows, columns = codes.shape
    padded_rows, padded_columns = padded_shape(weight_format, rows, columns)
    padded = np.full((padded_rows, padded_columns), padding_of(weight_format))
    padded[:rows, :columns] = codes
    stored = to_stored(padded, weight_format)
    if weight_format == WeightFormat.TERNARY_DENSE:
        blocks = dense_bytes(stored)
    elif weight_format == WeightFormat.INT3:
        low = pack_planes(stored & np.uint8(3), 2).reshape(padded_rows // BLOCK_ROWS, -1, 2 * BLOCK_BYTES)
        high = pack_planes(stored >> np.uint8(2), 1).reshape(padded_rows // BLOCK_ROWS, -1, BLOCK_BYTES)
        blocks = np.concatenate([low, high], axis=2)
    else:
        blocks = pack_planes(stored, PLANE_BITS[weight_format])
    return PackedWeights(weight_format, rows, columns, blocks.reshape(-1))


def unpack(packed: PackedWeights) -> np.ndarray:
    """The codes, int8 (N, K). Raises OperatorError where the data's size does not fit."""
    weight_format = WeightFormat(packed.format)
    expected = packed_bytes(weight_format, packed.out_features, packed.in_features)
    if packed.data.size != expected:
        shape = f"{weight_format.name} ({packed.out_features}, {packed.in_features})"
        raise OperatorError(f"{packed.data.size} bytes of packed weights, {shape} takes {expected}")
    row_blocks = -(-packed.out_features // BLOCK_ROWS)
    data = packed.data.view(np.uint8).reshape(row_blocks, -1, block_bytes(weight_format))
    if weight_format == WeightFormat.TERNARY_DENSE:
        stored = stored_of_dense(data)
    elif weight_format == WeightFormat.INT3:
        low, high = data[:, :, : 2 * BLOCK_BYTES], data[:, :, 2 * BLOCK_BYTES :]
        stored = unpack_planes(low, 2) | unpack_planes(high, 1) << np.uint8(2)
    else:
        stored = unpack_planes(data, PLANE_BITS[weight_format])
    return from_stored(stored[: packed.out_features, : packed.in_features], weight_format)


def pack_groups(values: np.ndarray) -> np.ndarray:
    """Scales or zero points (N, groups) as [ceil(N/16)][groups][16], of the same type."""
    rows, groups = values.shape
    padded = np.zeros((-(-rows // BLOCK_ROWS) * BLOCK_ROWS, groups), values.dtype)
    padded[:rows] = values
    return np.ascontiguousarray(padded.reshape(-1, BLOCK_ROWS, groups).transpose(0, 2, 1))


def unpack_groups(packed: np.ndarray, out_features: int, groups: int) -> np.ndarray:
    """(N, groups). Raises OperatorError where the size does not fit."""
    expected = -(-out_features // BLOCK_ROWS) * BLOCK_ROWS * groups
    if packed.size != expected:
        raise OperatorError(f"{packed.size} values of {groups} groups, {out_features} rows take {expected}")
    return packed.reshape(-1, groups, BLOCK_ROWS).transpose(0, 2, 1).reshape(-1, groups)[:out_features]


def group_count(in_features: int, group_size: int) -> int:
    """Groups of a row. Raises OperatorError for a size that kernels do not take."""
    if group_size < GROUP_MULTIPLE or group_size % GROUP_MULTIPLE:
        raise OperatorError(f"groups of {group_size} inputs", f"take a multiple of {GROUP_MULTIPLE}")
    return -(-in_features // group_size)


def padded_shape(weight_format: WeightFormat, rows: int, columns: int) -> tuple[int, int]:
    width = block_width(weight_format)
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS, -(-columns // width) * width


def pack_planes(stored: np.ndarray, bits: int) -> np.ndarray:
    """Codes uint8 (N, K), padded, of ``bits`` each -> (row blocks, column blocks, 16, 4)."""
    planes = 8 // bits
    split = stored.reshape(len(stored) // BLOCK_ROWS, BLOCK_ROWS, -1, planes, QUAD)
    # (row block, lane, column block, plane j, i) -> (row block, column block, lane, i, plane j)
    split = split.transpose(0, 2, 1, 4, 3)
    data = np.zeros(split.shape[:-1], np.uint8)
    for plane in range(planes):
        data |= split[..., plane] << np.uint8(bits * plane)
    return data


def unpack_planes(data: np.ndarray, bits: int) -> np.ndarray:
    """Blocks (row blocks, ...) -> codes uint8 (N, K), padded."""
    data = data.reshape(len(data), -1, BLOCK_ROWS, QUAD)
    planes = [(data >> np.uint8(bits * plane)) & np.uint8(2**bits - 1) for plane in range(8 // bits)]
    # (row block, column block, lane, i, plane j) -> (row block, lane, column block, plane j, i)
    return np.stack(planes, -1).transpose(0, 2, 1, 4, 3).reshape(len(data) * BLOCK_ROWS, -1)


def dense_bytes(stored: np.ndarray) -> np.ndarray:
    """Trits t_j = w + 1 of five quads -> (row blocks, column blocks, 16, 4).

    With r = t_0 + 3 t_1 + 9 t_2 + 27 t_3 the byte is ``64 t_4 + r`` where r < 64, else ``192 + (r - 64) + 17 t_4``:
    so that one look-up among 64 gives the four trits in most bytes, and another in the rest.
    """
    split = stored.reshape(len(stored) // BLOCK_ROWS, BLOCK_ROWS, -1, 5, QUAD).transpose(0, 2, 1, 4, 3)
    low = split[..., :4] @ np.array([1, 3, 9, 27], np.uint8)
    last = split[..., 4]
    return np.where(low < 64, last * np.uint8(64) + low, np.uint8(192 - 64) + low + last * np.uint8(17))


def stored_of_dense(data: np.ndarray) -> np.ndarray:
    """The inverse of `dense_bytes`: trits uint8 (N, K), padded."""
    data = data.reshape(len(data), -1, BLOCK_ROWS, QUAD)
    rest = np.minimum(data - np.uint8(192), np.uint8(50))  # bytes above 242 are never written
    low = np.where(data < 192, data & np.uint8(63), 64 + rest % np.uint8(17))
    last = np.where(data < 192, data >> np.uint8(6), rest // np.uint8(17))
    trits = [*(low // power % 3 for power in (1, 3, 9, 27)), last]
    return np.stack(trits, -1).astype(np.uint8).transpose(0, 2, 1, 4, 3).reshape(len(data) * BLOCK_ROWS, -1)


def check_codes(codes: np.ndarray, weight_format: WeightFormat) -> None:
    if weight_format not in LIMITS:
        raise OperatorError(f"{weight_format.name} weights are not packed")
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise OperatorError(f"codes are {codes.dtype} of shape {codes.shape}, expected int8 (N, K)")
    low, high = LIMITS[weight_format]
    if codes.size and (int(codes.max()) > high or int(codes.min()) < low):
        raise OperatorError(f"{weight_format.name} codes lie in {codes.min()}..{codes.max()}, allowed {low}..{high}")
    if weight_format == WeightFormat.BINARY and not codes.all():
        raise OperatorError("BINARY codes hold zeros, allowed are -1 and 1")


def padding_of(weight_format: WeightFormat) -> np.int8:
    return np.int8(-1 if weight_format == WeightFormat.BINARY else 0)  # stored as 0 by BINARY


def to_stored(codes: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    if weight_format == WeightFormat.INT8:
        return codes.view(np.uint8)
    offset = (codes - np.int8(LIMITS[weight_format][0])).view(np.uint8)
    return offset >> np.uint8(1) if weight_format == WeightFormat.BINARY else offset


def from_stored(stored: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    stored = np.ascontiguousarray(stored).view(np.int8)
    if weight_format == WeightFormat.INT8:
        return stored
    if weight_format == WeightFormat.BINARY:
        return stored * np.int8(2) - np.int8(1)
    return stored + np.int8(LIMITS[weight_format][0])
