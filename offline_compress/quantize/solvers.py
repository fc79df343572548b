# SPDX-License-Identifier: Apache-2.0
"""Weights + statistics + grid -> codes, scales, error: round-to-nearest, GPTQ, GPTQ with descent, GPTAQ.

Token saliency is in the statistics (`offline_compress.saliency`), so every solver works with and without it. AWQ, which
scales what is before a matrix too, solves a block at once: `offline_compress.quantize.awq`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from offline_compress.errors import QuantizeError
from offline_compress.quantize.descent import descended
from offline_compress.quantize.grids import BINARY, TERNARY, FittedGrid, Grid, nearest
from offline_compress.quantize.rows import checked
from offline_compress.saliency.statistics import InputStatistics

MATRIX_SOLVERS = ("rtn", "gptq", "descent", "gptaq")
DAMPING = 0.01  # of the Hessian's mean diagonal


@dataclass(frozen=True)
class SolvedMatrix:
    """``weight ~ scale * (codes - zero)``; codes (N, K), scale and zero (N, groups).

    ``weight_error`` = |W - W'|^2 / |W|^2, ``output_error`` the same under the
    Hessian: tr((W - W') H (W - W')') / tr(W H W'); the two are equal without statistics.
    """

    grid: Grid
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    weight_error: float
    output_error: float

    def dequantised(self) -> torch.Tensor:
        """(N, K) float64."""
        scale, zero = FittedGrid(self.grid, self.scale, self.zero).columns(self.codes.shape[1])
        return scale * (self.codes - zero)


def solve(weight, grid: Grid, statistics: InputStatistics | None = None, solver: str = "rtn") -> SolvedMatrix:
    """``weight`` (N, K), array or tensor. Raises QuantizeError, naming the matrix, for one that is not finite or all
    zero, for statistics of another shape or of no tokens, and for a solver that does not exist."""
    name = statistics.name if statistics else "matrix"
    w = torch.from_numpy(checked(weight.detach().cpu().numpy() if torch.is_tensor(weight) else weight, name))
    if solver not in MATRIX_SOLVERS:
        raise QuantizeError(f"no solver named {solver!r}", f"use one of {', '.join(MATRIX_SOLVERS)}")
    if solver == "rtn":
        return solved(w, grid, *rounded(w, grid), hessian_of(statistics, w, name) if statistics else None)
    if statistics is None:
        raise QuantizeError(f"{name}: {solver} needs statistics of its inputs", "calibrate, or use rtn")
    hessian = hessian_of(statistics, w, name)
    shifted = solver == "gptaq" and statistics.shift.numel()
    target = towards_float(w, hessian, statistics.shift / statistics.tokens) if shifted else w
    codes, fitted = feedback(target, grid, hessian)
    if solver == "descent":
        codes, fitted = descended(target, codes, fitted, damped(hessian, DAMPING))
    return solved(w, grid, codes, fitted, hessian, target)


def hessian_of(statistics: InputStatistics, weight: torch.Tensor, name: str) -> torch.Tensor:
    """Mean over tokens (K, K)."""
    if statistics.in_features != weight.shape[1] or not statistics.tokens:
        raise QuantizeError(
            f"{name}: statistics of {statistics.tokens} tokens of {statistics.in_features} features do not fit"
            f" a matrix of {tuple(weight.shape)}",
            "calibrate this model",
        )
    return statistics.hessian / statistics.tokens


def rounded(weight: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, FittedGrid]:
    fitted = grid.fit(weight)
    if grid.kind == TERNARY and grid.rule == "twn":  # its threshold is not half its scale
        width = grid.group or weight.shape[1]
        groups = [weight[:, start : start + width] for start in grid.group_starts(weight.shape[1])]
        codes = [g.sign() * (g.abs() > 0.7 * g.abs().mean(1, keepdim=True)) for g in groups]
        return torch.cat(codes, 1), fitted
    return nearest(grid, weight, *fitted.columns(weight.shape[1])), fitted


def damped(hessian: torch.Tensor, share: float) -> torch.Tensor:
    """Inputs that never fire get a diagonal of their own; the rest a share of the mean."""
    diagonal = hessian.diagonal()
    mean = float(diagonal.mean())
    if not mean > 0:
        return torch.eye(len(hessian), dtype=hessian.dtype)
    return hessian + torch.eye(len(hessian), dtype=hessian.dtype) * (share * mean)


def upper_factor(hessian: torch.Tensor) -> torch.Tensor:
    """U with U' U = inverse of the damped Hessian; more damping where rounding made it indefinite."""
    for share in (DAMPING, 0.1, 1.0):
        lower, failed = torch.linalg.cholesky_ex(damped(hessian, share))
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return upper
    raise QuantizeError("a Hessian that is not positive", "calibrate with more or other data")


def feedback(weight: torch.Tensor, grid: Grid, hessian: torch.Tensor) -> tuple[torch.Tensor, FittedGrid]:
    """GPTQ (arXiv 2210.17323): column by column, the strongest inputs first; what rounding did to one column is
    made up for in those after it. Scales are fitted before; ternary and binary rows are then scaled in closed form,
    ``s = (t'Hw) / (t'Ht)``."""
    fitted = grid.fit(weight)
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    upper = upper_factor(hessian[order][:, order])
    work, codes = weight[:, order].clone(), torch.empty_like(weight)
    block = 128
    for first in range(0, len(order), block):
        last = min(first + block, len(order))
        errors = torch.empty(len(weight), last - first, dtype=weight.dtype)
        for i in range(first, last):
            column = int(order[i])
            scale, zero = fitted.column(column)
            code = nearest(grid, work[:, i], scale, zero)
            codes[:, column] = code
            error = (work[:, i] - scale * (code - zero)) / upper[i, i]
            work[:, i + 1 : last] -= error[:, None] * upper[i, i + 1 : last]
            errors[:, i - first] = error
        work[:, last:] -= errors @ upper[first:last, last:]
    if grid.kind in (TERNARY, BINARY) and grid.group is None:
        fitted = rescaled(weight, codes, fitted, hessian)
    return codes, fitted


def rescaled(weight: torch.Tensor, codes: torch.Tensor, fitted: FittedGrid, hessian: torch.Tensor) -> FittedGrid:
    """The scale of each row that is best for its codes; the old one where there is none above 0."""
    image = codes @ damped(hessian, DAMPING)  # (N, K)
    power = (image * codes).sum(1)
    scale = (image * weight).sum(1) / power.clamp_min(1e-300)
    old = fitted.scale[:, 0]
    return FittedGrid(fitted.grid, torch.where((scale > 0) & (old > 0), scale, old)[:, None], fitted.zero)


def towards_float(weight: torch.Tensor, hessian: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The weight whose output on the quantised model's inputs X is closest to W X_float:
    ``W + W (X_float - X) X' H^-1``.

    GPTAQ (arXiv 2504.02692) spreads the same residual during the column loop; here it is solved for at once, which
    has the same objective: |Q X - W X_float|^2 = |(Q - W*) X|^2 + constant.
    """
    return weight + torch.linalg.solve(damped(hessian, DAMPING), (weight @ shift).T).T


def solved(
    weight: torch.Tensor,
    grid: Grid,
    codes: torch.Tensor,
    fitted: FittedGrid,
    hessian: torch.Tensor | None,
    target: torch.Tensor | None = None,
) -> SolvedMatrix:
    """Measures the errors: of the weight itself, and of the output against that of ``target`` (default: weight)."""
    result = SolvedMatrix(grid, codes, fitted.scale, fitted.zero, 0.0, 0.0)
    value = result.dequantised()
    plain = float((weight - value).square().sum() / weight.square().sum())
    wanted = weight if target is None else target
    output = plain if hessian is None else quadratic(wanted - value, hessian) / max(quadratic(wanted, hessian), 1e-300)
    return SolvedMatrix(grid, codes, fitted.scale, fitted.zero, plain, output)


def quadratic(rows: torch.Tensor, hessian: torch.Tensor) -> float:
    return float(((rows @ hessian) * rows).sum())
