# SPDX-License-Identifier: Apache-2.0
"""Plans and weights made with calibration pairs, without training: low-bit matrices solved, as export takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from offline_compress.errors import QuantizeError
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.quantize.awq import divided_norms
from offline_compress.quantize.block import SolveConfig
from offline_compress.quantize.blockwise import BlockwiseRun
from offline_compress.quantize.budget import Losses, check_budget, plan_under_budget
from offline_compress.quantize.cost import Cost
from offline_compress.quantize.format_errors import CANDIDATES, measure_formats
from offline_compress.quantize.plan import PlannedMatrix
from offline_compress.quantize.report import MatrixReport, matrix_report, quantise_matrix
from offline_compress.quantize.solved_linear import SolvedLinear, grid_of
from offline_compress.streaming.streamed_vlm import StreamedVlm
from offline_compress.train.compression import Source
from offline_compress.train.qat import BatchSource


class CalibrationBatches(Sequence):
    """The batches of a source that hold ``pairs`` pairs, a multiple of ``size``, each made when it is asked for."""

    def __init__(self, source: BatchSource, pairs: int, size: int) -> None:
        self.source, self.count = source, pairs // size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, torch.Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.source.batch(index)


def automatic_plan(
    source: Source,
    batches: Sequence[Mapping[str, torch.Tensor]],
    budget: int,
    work: Path | None = None,
    dtype: torch.dtype = torch.float32,
    report: Callable[[float, str], None] = lambda share, what: None,
    announce: Callable[[Cost], None] = lambda cost: None,
    dense_ternary: bool = False,
) -> tuple[Source, Losses]:
    """``source`` with the plan that is best for ``budget`` bytes of both graphs, and what each format was expected to
    cost (`Losses`). Raises QuantizeError where no plan fits."""
    if work is None:
        with TemporaryDirectory(prefix="edge_vlm_plan_") as folder:
            return automatic_plan(source, batches, budget, Path(folder), dtype, report, announce, dense_ternary)
    check_budget(source.weights, CANDIDATES, budget, dense_ternary)
    losses = measure_formats(StreamedVlm.open(source.folder, dtype), batches, work, report=report, announce=announce)
    plan = plan_under_budget(source.weights, losses, budget, dense_ternary)
    return source.with_plan(plan), losses


def calibrated(
    source: Source,
    batches: Sequence[Mapping[str, torch.Tensor]],
    solver: str,
    saliency: str,
    report: Callable[[float, str], None] = lambda share, what: None,
    work: Path | None = None,
    resume: bool = True,
    dtype: torch.dtype = torch.float32,
    announce: Callable[[Cost], None] = lambda cost: None,
) -> tuple[ModelWeights, list[MatrixReport]]:
    """Matrices of the blocks below 8 bits by ``solver``, all others rounded to the nearest. ``saliency`` as in
    `SolveConfig`.

    ``work``: a folder that keeps finished blocks; None: nothing is kept. ``report`` as in `BlockwiseRun.run`;
    ``announce`` is told the cost before anything is computed.
    Raises QuantizeError for a plan without such matrices, or a calibration set that cannot be used.
    """
    grids = {line.name: grid_of(line.method) for line in source.solvable}
    if not grids:
        raise QuantizeError(f"{source.variant}: nothing to calibrate", "calibration is for plans below 8 bits")
    if work is None:
        with TemporaryDirectory(prefix="edge_vlm_blocks_") as folder:
            weights, rows = calibrated(source, batches, solver, saliency, report, Path(folder), False, dtype, announce)
            return held_in_memory(weights), rows
    rest = {line.name: rounded_linear(source, line) for line in source.table if line.name not in grids}
    quantised = {name: weights for name, weights in rest.items() if weights is not source.weights.linears[name]}
    run = BlockwiseRun(
        StreamedVlm.open(source.folder, dtype), batches, grids, SolveConfig(solver, saliency), work, resume, quantised
    )
    announce(run.cost())
    solved = run.run(report)
    linears = {**quantised, **{name: matrix.weights for name, matrix in solved.items()}}
    scales = {name: matrix.norm_scale for name, matrix in solved.items() if matrix.norm_scale is not None}
    norms = divided_norms(source.weights.tensors, scales)
    weights = replace(source.weights.with_linears(linears), tensors={**source.weights.tensors, **norms})
    return weights, [reported(source, line, weights.linears[line.name], solved.get(line.name)) for line in source.table]


def rounded_linear(source: Source, line: PlannedMatrix) -> LinearWeights:
    """To the nearest; the float matrix itself where the plan leaves it float."""
    weights = source.weights.linears[line.name]
    result = quantise_matrix(weights.codes, line)
    if result is None:
        return weights
    return LinearWeights(line.method.format, result.codes, result.scale, weights.bias, result.groups)


def reported(source: Source, line: PlannedMatrix, weights: LinearWeights, solved: SolvedLinear | None) -> MatrixReport:
    original = source.weights.linears[line.name]
    if solved is not None:
        row = matrix_report(line, original, weights, solved.weight_error)
        return replace(row, output_error=round(solved.output_error, 6), saliency_share=solved.saliency_share)
    if weights is original:
        return matrix_report(line, original, weights, 0.0)
    value = original.codes
    error = float(np.square(value - weights.dequantised()).sum() / np.square(value).sum())
    return matrix_report(line, original, weights, error)


def held_in_memory(weights: ModelWeights) -> ModelWeights:
    """The same, without files of a work folder behind it."""
    quantised = {name: w for name, w in weights.linears.items() if isinstance(w, LinearWeights)}
    return weights.with_linears({name: replace(w, codes=np.array(w.codes)) for name, w in quantised.items()})
