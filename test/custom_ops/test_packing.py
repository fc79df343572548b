# SPDX-License-Identifier: Apache-2.0
"""The packed layout: round trips on odd sizes, sizes, and the very bits that the format promises."""

import numpy as np
import pytest

from custom_ops.errors import OperatorError
from custom_ops.packing import (
    LIMITS,
    PackedWeights,
    block_width,
    pack,
    pack_groups,
    packed_bytes,
    unpack,
    unpack_groups,
)
from custom_ops.spec import WeightFormat

FORMATS = list(LIMITS)


def random_codes(rng, weight_format, rows, columns):
    if weight_format == WeightFormat.BINARY:
        return rng.choice(np.array([-1, 1], np.int8), (rows, columns))
    low, high = LIMITS[weight_format]
    return rng.integers(low, high + 1, (rows, columns)).astype(np.int8)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_what_is_packed_comes_back(weight_format):
    rng = np.random.default_rng(1)
    for rows, columns in [(1, 1), (1, 70), (15, 3), (16, 16), (17, 33), (31, 32), (70, 1), (48, 576), (5, 1000)]:
        codes = random_codes(rng, weight_format, rows, columns)
        packed = pack(codes, weight_format)
        assert packed.data.nbytes == packed_bytes(weight_format, rows, columns)
        assert np.array_equal(unpack(packed), codes)


PLANES = {  # width of a block, and what is stored for a code
    WeightFormat.TERNARY: (16, lambda w: w + 1),
    WeightFormat.BINARY: (32, lambda w: (w + 1) // 2),
    WeightFormat.INT8: (4, lambda w: w % 256),
    WeightFormat.INT2: (16, lambda w: w + 2),
    WeightFormat.INT4: (8, lambda w: w + 8),
}


@pytest.mark.parametrize("weight_format", PLANES)
def test_every_weight_stands_where_the_format_says(weight_format):
    rows, columns = 37, 75
    codes = random_codes(np.random.default_rng(2), weight_format, rows, columns)
    data = pack(codes, weight_format).data
    width, stored_of = PLANES[weight_format]
    assert width == block_width(weight_format)
    bits = 32 // width
    for n in (0, 15, 16, 36):
        for k in (0, 3, 4, 15, 16, 33, 74):
            block = (n // 16) * -(-columns // width) + k // width
            byte = int(data[block * 64 + (n % 16) * 4 + k % 4])
            stored = byte >> (bits * (k % width // 4)) & (2**bits - 1)
            assert stored == stored_of(int(codes[n, k]))


def test_int3_is_two_ternary_blocks_and_a_binary_one():
    codes = random_codes(np.random.default_rng(3), WeightFormat.INT3, 16, 64)
    blocks = pack(codes, WeightFormat.INT3).data.reshape(2, 192)
    stored = codes + np.int8(4)
    # code 3 is none of TERNARY's, but its bits are those of INT2
    assert np.array_equal(blocks[:, :128].reshape(-1), pack((stored & 3) - np.int8(2), WeightFormat.INT2).data)
    assert np.array_equal(
        blocks[:, 128:].reshape(-1), pack((stored >> 2) * np.int8(2) - np.int8(1), WeightFormat.BINARY).data
    )


def test_five_trits_of_a_byte():
    trits = np.array(np.meshgrid(*[range(3)] * 5, indexing="ij")).reshape(5, -1).T  # all 243
    for t in trits:
        codes = np.zeros((1, 20), np.int8)
        codes[0, 1::4] = t - 1  # the quads' second inputs share byte 1
        r = int(t[:4] @ [1, 3, 9, 27])
        expected = 64 * t[4] + r if r < 64 else 192 + r - 64 + 17 * t[4]
        assert pack(codes, WeightFormat.TERNARY_DENSE).data[1] == expected


def test_groups_lie_by_sixteen_rows():
    values = np.arange(17 * 3, dtype=np.float16).reshape(17, 3)
    packed = pack_groups(values)
    assert packed.shape == (2, 3, 16) and packed[1, 2, 0] == values[16, 2] and not packed[1, :, 1:].any()
    assert np.array_equal(unpack_groups(packed, 17, 3), values)
    with pytest.raises(OperatorError, match="96 values of 2 groups, 17 rows take 64"):
        unpack_groups(packed, 17, 2)


def test_ternary_padding_is_weight_zero():
    assert set(pack(np.ones((1, 1), np.int8), WeightFormat.TERNARY).data.tolist()) == {0b01010101, 0b01010110}


@pytest.mark.parametrize(
    ("codes", "weight_format", "message"),
    [
        (np.full((2, 2), 2, np.int8), WeightFormat.TERNARY, "allowed -1..1"),
        (np.zeros((2, 2), np.int8), WeightFormat.BINARY, "hold zeros"),
        (np.full((2, 2), -128, np.int8), WeightFormat.INT8, "allowed -127..127"),
        (np.full((2, 2), 2, np.int8), WeightFormat.INT2, "allowed -2..1"),
        (np.zeros((2, 2), np.float32), WeightFormat.INT8, "expected int8"),
        (np.zeros((2, 2), np.int8), WeightFormat.FLOAT32, "not packed"),
    ],
)
def test_codes_that_cannot_be_stored_are_refused(codes, weight_format, message):
    with pytest.raises(OperatorError, match=message):
        pack(codes, weight_format)


def test_truncated_data_is_refused():
    packed = pack(np.zeros((17, 40), np.int8), WeightFormat.TERNARY)
    with pytest.raises(OperatorError, match="takes 384"):
        unpack(PackedWeights(packed.format, 17, 40, packed.data[:-1]))
