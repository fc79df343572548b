# SPDX-License-Identifier: Apache-2.0
"""LiteRT's own matrices in place of the operator library: near the reference, refused where they hold no format."""

import numpy as np
import pytest

from custom_ops import builtin_linear, reference
from custom_ops.builtin_linear import BITS, BuiltinLinear, BuiltinLinears, pack_builtin, why_not_builtin
from custom_ops.packing import LIMITS, pack
from custom_ops.spec import Linear, WeightFormat

needs_builtin = pytest.mark.skipif(bool(why_not_builtin()), reason=why_not_builtin())


def test_codes_lie_low_bits_first():
    assert pack_builtin(np.array([[1, -1, 0, -2]], np.int8), 2).tolist() == [0b10_00_11_01]
    assert pack_builtin(np.array([[-8, 7]], np.int8), 4).tolist() == [0x78]
    assert pack_builtin(np.array([[-127, 5]], np.int8), 8).tolist() == [0x81, 5]


@needs_builtin
@pytest.mark.parametrize("weight_format", sorted(BITS))
def test_products_are_those_of_the_reference_but_for_rounding(weight_format, rng):
    low, high = LIMITS[weight_format]
    for outputs, inputs in [(1, 1), (17, 31), (33, 65), (40, 192)]:
        codes = rng.integers(low, high + 1, (outputs, inputs)).astype(np.int8)
        scale = rng.uniform(0.1, 1, outputs).astype(np.float32)
        linear = BuiltinLinear(codes, scale, weight_format)
        for rows in (1, 5, 2):  # the rows of a call change as they like
            x = rng.normal(size=(rows, inputs)).astype(np.float32)
            error = np.linalg.norm(linear(x) - reference.linear(x, codes, scale))
            assert error < 0.02 * np.linalg.norm(np.abs(x) @ np.abs(codes * scale[:, None]).T)


def test_grouped_scales_stay_with_numpy(rng):
    attributes = Linear(WeightFormat.INT4, 64, 4, group_size=32)
    packed = pack(np.zeros((4, 64), np.int8), WeightFormat.INT4).data
    assert BuiltinLinears().of(attributes, packed, np.zeros((4, 64), np.int8), np.ones(4, np.float32)) is None


def test_a_runtime_that_multiplies_wrongly_is_found_out(monkeypatch):
    monkeypatch.setattr(BuiltinLinear, "__call__", lambda self, x: np.zeros((len(x), 24), np.float32))
    why_not_builtin.cache_clear()
    try:
        assert "wrongly" in builtin_linear.why_not_builtin() or "refused" in builtin_linear.why_not_builtin()
    finally:
        why_not_builtin.cache_clear()
