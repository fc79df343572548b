# SPDX-License-Identifier: Apache-2.0
"""The values that a weight may take: ternary, binary, or 2 to 8-bit integers, per row or per group of columns.

``value = scale * (code - zero)``; ``zero`` is 0 but for asymmetric integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from offline_compress.errors import QuantizeError
from offline_compress.quantize.ternary import KMEANS_ITERATIONS

SHRINKS = torch.linspace(1.0, 0.3, 29)  # of the largest magnitude; clipping pays at 2 and 3 bits
TERNARY, BINARY, INTEGER = "ternary", "binary", "integer"


@dataclass(frozen=True)
class Grid:
    """``group``: columns that share a scale, None for the whole row. ``rule``: of ternary scales."""

    kind: str
    bits: int = 2
    symmetric: bool = True
    group: int | None = None
    rule: str = "kmeans"

    def __post_init__(self) -> None:
        if self.kind not in (TERNARY, BINARY, INTEGER) or self.rule not in ("kmeans", "absmean", "twn"):
            raise QuantizeError(f"no grid {self.kind!r} with rule {self.rule!r}", "see offline_compress.quantize.grids")
        if self.kind == INTEGER and not 2 <= self.bits <= 8 or self.group is not None and self.group < 1:
            raise QuantizeError(f"a grid of {self.bits} bits in groups of {self.group}", "2 to 8 bits, groups of 1 up")

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code."""
        if self.kind != INTEGER:
            return -1, 1
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.symmetric else (0, (1 << self.bits) - 1)

    def group_starts(self, in_features: int) -> list[int]:
        return list(range(0, in_features, self.group or in_features))

    def fit(self, weight: torch.Tensor) -> FittedGrid:
        """Scales of weight (N, K), the last group of a row being what is left of it."""
        starts = self.group_starts(weight.shape[1])
        width = self.group or weight.shape[1]
        fitted = [fit_group(self, weight[:, start : start + width]) for start in starts]
        scale, zero = (torch.stack(values, 1) for values in zip(*fitted, strict=True))
        return FittedGrid(self, scale, zero)


@dataclass(frozen=True)
class FittedGrid:
    """``scale`` and ``zero`` (N, groups)."""

    grid: Grid
    scale: torch.Tensor
    zero: torch.Tensor

    def column(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        group = index // self.grid.group if self.grid.group else 0
        return self.scale[:, group], self.zero[:, group]

    def columns(self, in_features: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and zero of every weight, (N, K)."""
        width = self.grid.group or in_features
        index = torch.arange(in_features) // width
        return self.scale[:, index], self.zero[:, index]


def nearest(grid: Grid, weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Codes of the nearest values; where a scale is 0, the code of value 0 (binary: by sign)."""
    if grid.kind == BINARY:
        return torch.where(weight >= 0, 1.0, -1.0).to(weight)
    low, high = grid.limits
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (weight / safe + zero).round().clamp(low, high)
    return torch.where(scale > 0, codes, zero.expand_as(codes))


def fit_group(grid: Grid, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero (N,) of weight (N, columns)."""
    if grid.kind == INTEGER:
        return fit_integer(grid, weight)
    magnitude = weight.abs()
    scale = magnitude.mean(1)
    if grid.kind == TERNARY and grid.rule == "twn":
        scale = mean_above(magnitude, 0.7 * scale)
    elif grid.kind == TERNARY and grid.rule == "kmeans":
        for _ in range(KMEANS_ITERATIONS):
            scale = mean_above(magnitude, scale / 2)
    return scale, torch.zeros_like(scale)


def mean_above(magnitude: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    above = magnitude > threshold[:, None]
    return (magnitude * above).sum(1) / above.sum(1).clamp_min(1)


def fit_integer(grid: Grid, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The range, shrunk as far as the squared error of each row likes."""
    low, high = grid.limits
    least = torch.full_like(weight[:, 0], torch.inf)
    best_scale, best_zero = torch.zeros_like(least), torch.zeros_like(least)
    for shrink in SHRINKS.tolist():
        if grid.symmetric:
            scale, zero = weight.abs().amax(1) * shrink / (high + 0.5), torch.zeros_like(least)
        else:
            bottom, top = weight.amin(1).clamp(max=0) * shrink, weight.amax(1).clamp(min=0) * shrink
            scale = (top - bottom) / (high - low)
            zero = torch.where(scale > 0, -bottom / scale.clamp_min(1e-30), torch.zeros_like(scale)).round()
        codes = nearest(grid, weight, scale[:, None], zero[:, None])
        error = (weight - scale[:, None] * (codes - zero[:, None])).square().sum(1)
        better = error < least
        least = torch.where(better, error, least)
        best_scale, best_zero = torch.where(better, scale, best_scale), torch.where(better, zero, best_zero)
    return best_scale, best_zero
