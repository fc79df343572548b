# SPDX-License-Identifier: Apache-2.0
"""The low-bit matrices of a plan solved against calibration pairs, without training, as weights for export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from custom_ops.spec import WeightFormat
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.quantize.blockwise import HALVES, quantise_blockwise
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.grids import BINARY, TERNARY, Grid
from offline_compress.quantize.plan import LOW_BIT
from offline_compress.quantize.report import MatrixReport, with_final_errors
from offline_compress.quantize.solvers import SolvedMatrix
from offline_compress.train.compression import Source, load_float_model

FORMATS = {TERNARY: WeightFormat.TERNARY, BINARY: WeightFormat.BINARY}


def calibrated(
    source: Source,
    batches: Sequence[Mapping[str, torch.Tensor]],
    solver: str,
    saliency: bool,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[ModelWeights, list[MatrixReport]]:
    """Ternary and binary matrices of the blocks by ``solver``, all others as `Source.initial` rounds them.

    Raises QuantizeError for a plan without such matrices, or a calibration set that cannot be used.
    """
    weights, rows = source.initial()
    grids = {
        line.name: grid_of(line.method.name)
        for line in source.table
        if line.method.name in LOW_BIT and line.name.startswith(HALVES)
    }
    if not grids:
        raise QuantizeError(f"{source.variant}: nothing to calibrate", "calibration is for ternary and binary plans")
    solved = quantise_blockwise(load_float_model(source.folder), batches, grids, solver, saliency, report)
    exact = {name: for_export(matrix, weights.linears[name].bias) for name, matrix in solved.items()}
    weights = weights.with_linears(exact)
    return weights, with_final_errors(rows, source.weights, weights.linears)


def grid_of(method: str) -> Grid:
    kind, _, rule = method.partition("-")
    return Grid(kind, rule=rule or "kmeans")


def for_export(matrix: SolvedMatrix, bias: np.ndarray | None) -> LinearWeights:
    """Codes and one scale per row."""
    scale = matrix.scale[:, 0].numpy().astype(np.float32)
    return LinearWeights(FORMATS[matrix.grid.kind], matrix.codes.numpy().astype(np.int8), scale, bias)
