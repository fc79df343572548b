# SPDX-License-Identifier: Apache-2.0
"""The methods a plan can name: how each quantises, what it stores, what that costs in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np

from custom_ops.packing import packed_bytes
from custom_ops.spec import BLOCK_ROWS, WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.quantize.binary import binary
from offline_compress.quantize.int8 import int8
from offline_compress.quantize.integer import FORMATS as INTEGER_FORMATS
from offline_compress.quantize.integer import integer
from offline_compress.quantize.rows import QuantisedRows
from offline_compress.quantize.ternary import ternary_absmean, ternary_kmeans, ternary_twn

BITS = {
    WeightFormat.BINARY: 1,
    WeightFormat.TERNARY: 2,
    WeightFormat.INT2: 2,
    WeightFormat.INT3: 3,
    WeightFormat.INT4: 4,
    WeightFormat.INT8: 8,
    WeightFormat.FLOAT32: 32,
}
FLOAT_BYTES = 4
GROUP_SCALE_BYTES, ZERO_BYTES = 2, 1
GROUPS = (32, 64, 128)  # inputs that share a scale


@dataclass(frozen=True)
class Method:
    """``quantise(weight (N, K), name) -> QuantisedRows``; None for float, which is kept as it is.

    ``group``: inputs that share a scale, None for the whole row; ``symmetric``: without zero points.
    """

    name: str
    format: WeightFormat
    quantise: Callable[[np.ndarray, str], QuantisedRows] | None
    group: int | None = None
    symmetric: bool = True

    @property
    def bits(self) -> int:
        return BITS[self.format]


def integer_methods() -> Iterator[Method]:
    """int2-g32 ... int4-g128, and int2-g32-asym ... with zero points."""
    for bits in INTEGER_FORMATS:
        for group in GROUPS:
            for symmetric in (True, False):
                name = f"int{bits}-g{group}{'' if symmetric else '-asym'}"
                quantise = partial(integer, bits=bits, group=group, symmetric=symmetric)
                yield Method(name, INTEGER_FORMATS[bits], quantise, group, symmetric)


METHODS = {
    method.name: method
    for method in (
        Method("ternary", WeightFormat.TERNARY, ternary_kmeans),
        Method("ternary-absmean", WeightFormat.TERNARY, ternary_absmean),
        Method("ternary-twn", WeightFormat.TERNARY, ternary_twn),
        Method("binary", WeightFormat.BINARY, binary),
        *integer_methods(),
        Method("int8", WeightFormat.INT8, int8),
        Method("float32", WeightFormat.FLOAT32, None),
    )
}


def method_named(name: str) -> Method:
    """Raises QuantizeError that lists the methods."""
    if name not in METHODS:
        raise QuantizeError(f"no quantisation method named {name!r}", f"use one of {', '.join(METHODS)}")
    return METHODS[name]


def stored_bytes(
    weight_format: WeightFormat,
    out_features: int,
    in_features: int,
    has_bias: bool = False,
    group: int | None = None,
    has_zero: bool = False,
) -> int:
    """Bytes of one matrix as the operator library packs it: rows padded to 16, columns to a block; scales, bias."""
    vectors = FLOAT_BYTES * out_features * (1 + has_bias)
    if weight_format == WeightFormat.FLOAT32:
        return FLOAT_BYTES * out_features * in_features + FLOAT_BYTES * out_features * has_bias
    if group is not None:
        groups = ceil(out_features / BLOCK_ROWS) * BLOCK_ROWS * ceil(in_features / group)
        vectors += groups * (GROUP_SCALE_BYTES + ZERO_BYTES * has_zero)
    return packed_bytes(weight_format, out_features, in_features) + vectors
