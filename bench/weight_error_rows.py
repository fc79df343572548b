# SPDX-License-Identifier: Apache-2.0
"""Relative squared errors of the row quantisers on drawn weights, beside the values that are known of them."""

from __future__ import annotations

import numpy as np

from bench.rows import Row
from offline_compress.quantize.formats import method_named

ROWS, COLUMNS, TOLERANCE = 64, 8192, 0.01
# Of the optimum for Gaussian and Laplace weights, and of the other rules: numerical integration.
KNOWN = {
    "ternary": (0.1906, 0.265),
    "ternary-twn": (0.1907, 0.282),
    "ternary-absmean": (0.2635, 0.394),
    "binary": (0.363, 0.500),
}


def weight_error_rows(seed: int = 0) -> list[Row]:
    """The goal is how far a value may be from the known one, relatively."""
    rng = np.random.default_rng(seed)
    drawn = {
        "Gaussian": rng.standard_normal((ROWS, COLUMNS)).astype(np.float32),
        "Laplace": rng.laplace(size=(ROWS, COLUMNS)).astype(np.float32),
    }
    rows = []
    for name, known in KNOWN.items():
        method = method_named(name)
        for (kind, weight), expected in zip(drawn.items(), known, strict=True):
            error = method.quantise(weight, name).relative_error
            distance = abs(error / expected - 1)
            rows.append(Row(f"{name}, {kind} weights: relative error", error, "", note=f"known: {expected:g}"))
            rows.append(Row(f"{name}, {kind} weights: distance to the known value", distance, "", TOLERANCE))
    return rows
