# SPDX-License-Identifier: Apache-2.0
"""Compression without training as one step: plan (given, or found under a byte budget), solve, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from offline_compress.errors import QuantizeError
from offline_compress.export.weights import ModelWeights
from offline_compress.quantize.budget import Losses, budget_of_bits
from offline_compress.quantize.report import MatrixReport, plan_table, planned_rows, stored_rows
from offline_compress.train.calibration import automatic_plan, calibrated
from offline_compress.train.compression import Source
from offline_compress.train.precision import multiplies_bfloat16
from offline_compress.train.progress import counted

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LARGE = 100_000_000  # parameters from which bfloat16 pays where the processor multiplies it in hardware
BABBLES = 1.25  # times the float model's perplexity


@dataclass(frozen=True)
class TrainingFree:
    """``budget_mb`` of both graphs, or ``bits`` a weight: with one of them the plan is found, else it is given.

    ``plan_pairs``: calibration pairs that the sensitivities of an automatic plan are measured on.
    ``dense_ternary``: a ternary weight counts 1.6 bits there, not 2.
    """

    solver: str = "gptq"
    saliency: str = "answers"
    pairs: int = 128
    plan_pairs: int = 32
    budget_mb: float | None = None
    bits: float | None = None
    precision: str = "auto"
    dense_ternary: bool = False

    def dtype(self, parameters: int) -> torch.dtype:
        if self.precision == "auto":
            return torch.bfloat16 if parameters >= LARGE and multiplies_bfloat16() else torch.float32
        return PRECISIONS[self.precision]


def compress_without_training(
    source: Source,
    batches: Callable[[int], Sequence[Mapping[str, torch.Tensor]]],
    config: TrainingFree,
    work: Path,
    resume: bool,
    console: Console,
) -> tuple[Source, ModelWeights, list[MatrixReport], dict]:
    """The source under its final plan, weights and rows for export, and what report.json says of the run.

    ``batches(pairs)`` gives calibration pairs. Prints the plan and the cost before anything is solved.
    """
    name = source.folder.resolve().name
    dtype = config.dtype(sum(w.out_features * w.in_features for w in source.weights.linears.values()))
    losses: Losses = {}
    if config.budget_mb is not None or config.bits is not None:
        if not resume:
            shutil.rmtree(work / "plan", ignore_errors=True)
        by_bits = config.budget_mb is None
        budget = budget_of_bits(source.weights, config.bits) if by_bits else round(1e6 * config.budget_mb)
        with counted(f"{name}: sensitivities, %", 100, console) as advance:
            source, losses = automatic_plan(
                source, batches(min(config.plan_pairs, config.pairs)), budget, work / "plan",
                dtype, lambda share, what: advance(round(100 * share), what),
                lambda cost: console.print(f"{name}: sensitivities: {cost}", highlight=False), config.dense_ternary,
            )  # fmt: skip
    planned = stored_rows(planned_rows(source.weights, source.table), config.dense_ternary)
    console.print(plan_table(planned, f"{name}: {source.plan.name}, planned"))
    if losses and not source.solvable:  # the budget leaves 8 bits or more to all blocks
        weights, rows = source.initial()
    else:
        with counted(f"{name}: {config.solver}, %", 100, console) as advance:
            weights, rows = calibrated(
                source, batches(config.pairs), config.solver, config.saliency,
                lambda share, what: advance(round(100 * share), what), work / "blocks", resume, dtype,
                lambda cost: console.print(f"{name}: {cost}", highlight=False),
            )  # fmt: skip
    if losses:
        rows = [replace(row, expected_loss=losses.get(row.name, {}).get(row.method)) for row in rows]
    console.print(plan_table(stored_rows(rows, config.dense_ternary), f"{name}: {source.plan.name}, {config.solver}"))
    options = {**asdict(config), "precision": str(dtype).removeprefix("torch.")}
    return source, weights, rows, {"method": "calibration", "options": options, "curve": [], "losses": losses}


def verdict(perplexity: float, float_perplexity: float, method: str) -> str | None:
    """A warning with its remedy where the compressed model has lost its words; None where it is usable."""
    ratio = perplexity / float_perplexity
    if ratio <= BABBLES:
        return None
    more = "train it: --steps 1000" if method in ("ternary", "binary") else "give it more bytes"
    return (
        f"warning: perplexity {perplexity:.3f} is {ratio:.2f} times that of the float model ({float_perplexity:.3f}):"
        f" its captions suffer\n  remedy: {more}, or keep more bits where they count: --method auto --budget-mb"
    )


def require(fulfilled: bool, what: str, remedy: str) -> None:
    if not fulfilled:
        raise QuantizeError(what, remedy)
