# SPDX-License-Identifier: Apache-2.0
"""2 to 4-bit integers with a scale, and a zero point where asymmetric, for every group of inputs."""

from __future__ import annotations

import numpy as np

from custom_ops.spec import WeightFormat
from offline_compress.export.weights import LinearWeights
from offline_compress.quantize.rows import QuantisedRows, checked

FORMATS = {2: WeightFormat.INT2, 3: WeightFormat.INT3, 4: WeightFormat.INT4}


def integer(weight: np.ndarray, name: str, bits: int, group: int, symmetric: bool) -> QuantisedRows:
    """Rounded to the nearest, ranges shrunk as the squared error likes; weight (N, K)."""
    from offline_compress.quantize.grids import INTEGER, Grid  # needs torch
    from offline_compress.quantize.solvers import solve

    solved = solve(checked(weight, name), Grid(INTEGER, bits, symmetric, group))
    return QuantisedRows.of_weights(np.asarray(weight, np.float64), grouped_weights(solved))


def grouped_weights(solved, bias: np.ndarray | None = None) -> LinearWeights:
    """A `SolvedMatrix` of an integer grid with groups, as export stores it: codes around 0."""
    grid = solved.grid
    shift = 0 if grid.symmetric else 1 << grid.bits - 1
    codes, scale, zero = (part.numpy() for part in (solved.codes, solved.scale, solved.zero))
    zero = None if grid.symmetric else zero - shift
    return LinearWeights.of_groups(FORMATS[grid.bits], codes - shift, scale, zero, grid.group, bias)
