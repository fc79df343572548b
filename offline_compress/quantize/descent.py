# SPDX-License-Identifier: Apache-2.0
"""Coordinate descent on codes and scales after GPTQ: each step is the best for one column of codes, the others fixed.

GPTQ decides about every column once, in sight of the columns after it only. A few sweeps over all columns in sight of
all others lower the same output error further, as in QuantEase (arXiv 2309.01885), here with scales that move along.
"""

from __future__ import annotations

import torch

from offline_compress.quantize.grids import FittedGrid, nearest

SWEEPS = 6
LEAST_GAIN = 2e-3  # of the output error, for another sweep
BLOCK = 64  # columns whose moves reach the others in one product


def descended(
    weight: torch.Tensor, codes: torch.Tensor, fitted: FittedGrid, hessian: torch.Tensor
) -> tuple[torch.Tensor, FittedGrid]:
    """Codes (N, K) and scales with an output error tr((W - Q) H (W - Q)') that no step made larger.

    ``hessian`` (K, K) must be positive: damped.
    """
    last = output_error(weight, codes, fitted, hessian)
    for _ in range(SWEEPS):
        codes = swept(weight, codes, fitted, hessian)
        fitted = with_best_scales(weight, codes, fitted, hessian)
        error = output_error(weight, codes, fitted, hessian)
        if error > (1 - LEAST_GAIN) * last:
            break
        last = error
    return codes, fitted


def output_error(weight: torch.Tensor, codes: torch.Tensor, fitted: FittedGrid, hessian: torch.Tensor) -> float:
    gap = weight - values(codes, fitted)
    return float(((gap @ hessian) * gap).sum())


def values(codes: torch.Tensor, fitted: FittedGrid) -> torch.Tensor:
    scale, zero = fitted.columns(codes.shape[1])
    return scale * (codes - zero)


def swept(weight: torch.Tensor, codes: torch.Tensor, fitted: FittedGrid, hessian: torch.Tensor) -> torch.Tensor:
    """Every column once, the strongest inputs first."""
    codes = codes.clone()
    value = values(codes, fitted)
    pull = (weight - value) @ hessian  # minus half the gradient, (N, K)
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    for first in range(0, len(order), BLOCK):
        columns = order[first : first + BLOCK]
        inside = hessian[columns][:, columns]
        near, before = pull[:, columns], value[:, columns].clone()
        for i, column in enumerate(columns.tolist()):
            scale, zero = fitted.column(column)
            old = before[:, i]
            code = nearest(fitted.grid, old + near[:, i] / inside[i, i], scale, zero)
            moved = scale * (code - zero) - old
            near -= moved[:, None] * inside[i]
            value[:, column], codes[:, column] = old + moved, code
        pull -= (value[:, columns] - before) @ hessian[columns]
    return codes


def with_best_scales(
    weight: torch.Tensor, codes: torch.Tensor, fitted: FittedGrid, hessian: torch.Tensor
) -> FittedGrid:
    """Scales that are best for the codes: of a row in closed form, of groups one group after the other."""
    width = fitted.grid.group or codes.shape[1]
    scales = fitted.scale.clone()
    pull = (weight - values(codes, fitted)) @ hessian
    for group, start in enumerate(fitted.grid.group_starts(codes.shape[1])):
        columns = slice(start, start + width)
        shape = codes[:, columns] - fitted.zero[:, group, None]  # what the scale multiplies
        image = shape @ hessian[columns]  # (N, K)
        power = (image[:, columns] * shape).sum(1)
        step = (pull[:, columns] * shape).sum(1) / power.clamp_min(1e-300)
        usable = (power > 0) & (scales[:, group] > 0) & (scales[:, group] + step > 0)
        step = torch.where(usable, step, torch.zeros_like(step))
        scales[:, group] += step
        pull -= step[:, None] * image
    return FittedGrid(fitted.grid, scales, fitted.zero)
