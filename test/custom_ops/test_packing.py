# SPDX-License-Identifier: Apache-2.0
"""The packed layout: round trips on odd sizes, sizes, and the very bits that the format promises."""

import numpy as np
import pytest

from custom_ops.errors import OperatorError
from custom_ops.packing import PackedWeights, block_width, pack, packed_bytes, unpack
from custom_ops.spec import WeightFormat

FORMATS = [WeightFormat.TERNARY, WeightFormat.BINARY, WeightFormat.INT8]


def random_codes(rng, weight_format, rows, columns):
    if weight_format == WeightFormat.BINARY:
        return rng.choice(np.array([-1, 1], np.int8), (rows, columns))
    limit = 1 if weight_format == WeightFormat.TERNARY else 127
    return rng.integers(-limit, limit + 1, (rows, columns)).astype(np.int8)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_what_is_packed_comes_back(weight_format):
    rng = np.random.default_rng(1)
    for rows, columns in [(1, 1), (1, 70), (15, 3), (16, 16), (17, 33), (31, 32), (70, 1), (48, 576), (5, 1000)]:
        codes = random_codes(rng, weight_format, rows, columns)
        packed = pack(codes, weight_format)
        assert packed.data.nbytes == packed_bytes(weight_format, rows, columns)
        assert np.array_equal(unpack(packed), codes)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_every_weight_stands_where_the_format_says(weight_format):
    rows, columns = 37, 75
    codes = random_codes(np.random.default_rng(2), weight_format, rows, columns)
    data = pack(codes, weight_format).data
    width = block_width(weight_format)
    bits = 32 // width
    for n in (0, 15, 16, 36):
        for k in (0, 3, 4, 15, 16, 33, 74):
            block = (n // 16) * -(-columns // width) + k // width
            byte = int(data[block * 64 + (n % 16) * 4 + k % 4])
            stored = byte >> (bits * (k % width // 4)) & (2**bits - 1)
            code = int(codes[n, k])
            expected = {1: code + 1, 2: (code + 1) // 2, 3: code % 256}[int(weight_format)]
            assert stored == expected


def test_ternary_padding_is_weight_zero():
    assert set(pack(np.ones((1, 1), np.int8), WeightFormat.TERNARY).data.tolist()) == {0b01010101, 0b01010110}


@pytest.mark.parametrize(
    ("codes", "weight_format", "message"),
    [
        (np.full((2, 2), 2, np.int8), WeightFormat.TERNARY, "allowed -1..1"),
        (np.zeros((2, 2), np.int8), WeightFormat.BINARY, "hold zeros"),
        (np.full((2, 2), -128, np.int8), WeightFormat.INT8, "allowed -127..127"),
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
