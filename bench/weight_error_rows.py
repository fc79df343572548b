# SPDX-License-Identifier: Apache-2.0
"""Relative squared errors of the row quantisers on drawn weights, beside those on unlimited ones."""

from __future__ import annotations

import numpy as np

from bench.rows import Row
from offline_compress.quantize.formats import method_named

ROWS, COLUMNS, TOLERANCE = 64, 8192, 0.01
# Of each rule on an unlimited number of Gaussian and Laplace weights, by numerical integration. k-means ends at the
# optimum; TWN is its rule of .7 mean|w| (at .75 mean|w| it would be .1903 and .2767).
KNOWN = {
    "ternary": (0.1902, 0.2642),
    "ternary-twn": (0.1916, 0.2824),
    "ternary-absmean": (0.2634, 0.3935),
    "binary": (0.3634, 0.5),
}


def weight_error_rows(seed: int = 0) -> list[Row]:
    """The goal is how far a value may be from the integrated one, relatively."""
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
            rows.append(
                Row(f"{name}, {kind} weights: relative error", error, "", note=f"unlimited weights: {expected:g}")
            )
            rows.append(Row(f"{name}, {kind} weights: distance to that of unlimited weights", distance, "", TOLERANCE))
    return rows
