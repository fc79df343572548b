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
from offline_compress.quantize.formats import Method
from offline_compress.quantize.grids import BINARY, INTEGER, TERNARY, Grid
from offline_compress.quantize.integer import grouped_weights
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
    """Matrices of the blocks below 8 bits by ``solver``, all others as `Source.initial` rounds them.

    Raises QuantizeError for a plan without such matrices, or a calibration set that cannot be used.
    """
    weights, rows = source.initial()
    grids = {
        line.name: grid_of(line.method)
        for line in source.table
        if line.method.bits < 8 and line.name.startswith(HALVES)
    }
    if not grids:
        raise QuantizeError(f"{source.variant}: nothing to calibrate", "calibration is for plans below 8 bits")
    solved = quantise_blockwise(load_float_model(source.folder), batches, grids, solver, saliency, report)
    exact = {name: for_export(matrix, weights.linears[name].bias) for name, matrix in solved.items()}
    weights = weights.with_linears(exact)
    return weights, with_final_errors(rows, source.weights, weights.linears)


def grid_of(method: Method) -> Grid:
    if method.group is not None:
        return Grid(INTEGER, method.bits, method.symmetric, method.group)
    kind, _, rule = method.name.partition("-")
    return Grid(kind, rule=rule or "kmeans")


def for_export(matrix: SolvedMatrix, bias: np.ndarray | None) -> LinearWeights:
    """Codes and scales as the operators take them."""
    if matrix.grid.kind == INTEGER:
        return grouped_weights(matrix, bias)
    scale = matrix.scale[:, 0].numpy().astype(np.float32)
    return LinearWeights(FORMATS[matrix.grid.kind], matrix.codes.numpy().astype(np.int8), scale, bias)
