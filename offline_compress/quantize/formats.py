# SPDX-License-Identifier: Apache-2.0
"""The methods a plan can name: how each quantises, what it stores, what that costs in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from custom_ops.spec import BLOCK_BYTES, BLOCK_ROWS, WeightFormat
from offline_compress.quantize.binary import binary
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.int8 import int8
from offline_compress.quantize.rows import QuantisedRows
from offline_compress.quantize.ternary import ternary_absmean, ternary_kmeans, ternary_twn

BITS = {WeightFormat.TERNARY: 2, WeightFormat.BINARY: 1, WeightFormat.INT8: 8, WeightFormat.FLOAT32: 32}
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Method:
    """``quantise(weight (N, K), name) -> QuantisedRows``; None for float, which is kept as it is."""

    name: str
    format: WeightFormat
    quantise: Callable[[np.ndarray, str], QuantisedRows] | None

    @property
    def bits(self) -> int:
        return BITS[self.format]


METHODS = {
    method.name: method
    for method in (
        Method("ternary", WeightFormat.TERNARY, ternary_kmeans),
        Method("ternary-absmean", WeightFormat.TERNARY, ternary_absmean),
        Method("ternary-twn", WeightFormat.TERNARY, ternary_twn),
        Method("binary", WeightFormat.BINARY, binary),
        Method("int8", WeightFormat.INT8, int8),
        Method("float32", WeightFormat.FLOAT32, None),
    )
}


def method_named(name: str) -> Method:
    """Raises QuantizeError that lists the methods."""
    if name not in METHODS:
        raise QuantizeError(f"no quantisation method named {name!r}", f"use one of {', '.join(METHODS)}")
    return METHODS[name]


def stored_bytes(weight_format: WeightFormat, out_features: int, in_features: int, has_bias: bool = False) -> int:
    """Bytes of one matrix as the operator library packs it: rows padded to 16, columns to a block, scale, bias."""
    vectors = FLOAT_BYTES * out_features * (1 + has_bias)
    if weight_format == WeightFormat.FLOAT32:
        return FLOAT_BYTES * out_features * in_features + FLOAT_BYTES * out_features * has_bias
    columns = BLOCK_BYTES * 8 // (BLOCK_ROWS * BITS[weight_format])  # of one block
    return ceil(out_features / BLOCK_ROWS) * ceil(in_features / columns) * BLOCK_BYTES + vectors
