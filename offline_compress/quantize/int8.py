# SPDX-License-Identifier: Apache-2.0
"""Symmetric 8-bit weights with one scale per output row."""

from __future__ import annotations

import numpy as np

from offline_compress.quantize.rows import QuantisedRows, checked

LIMIT = 127


def int8(weight: np.ndarray, name: str = "matrix") -> QuantisedRows:
    """``scale = max|w| / 127`` per row, ``codes = round(w / scale)``; weight (N, K), codes -127..127."""
    weight = checked(weight, name)
    largest = np.abs(weight).max(axis=1)
    inverse = np.divide(LIMIT, largest, out=np.zeros_like(largest), where=largest > 0)
    codes = np.clip(np.rint(weight * inverse[:, None]), -LIMIT, LIMIT)
    return QuantisedRows.of(weight, codes, largest / LIMIT)
