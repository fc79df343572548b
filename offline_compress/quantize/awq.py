# SPDX-License-Identifier: Apache-2.0
"""AWQ (arXiv 2306.00978), a baseline: strong input channels are scaled up before rounding, by mean|x|^a with the a in
0..1 of the least output error. What gives a block's matrices their inputs, a norm or the matrix before, is scaled down
by as much, so that no operator has to undo it. Behind a nonlinearity (fc2) nothing is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from offline_compress.quantize.grids import Grid
from offline_compress.quantize.rows import checked
from offline_compress.quantize.solvers import SolvedMatrix, hessian_of, rounded, solved
from offline_compress.saliency.statistics import InputStatistics

EXPONENTS = torch.linspace(0, 1, 21)


@dataclass(frozen=True)
class SharedInput:
    """Linears of a block that read the same values, and what makes those: a norm, or the rows of a Linear."""

    readers: tuple[str, ...]
    maker: str

    @property
    def is_normed(self) -> bool:
        return "norm" in self.maker


QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
VISION_INPUTS = (
    SharedInput(QKV, "layer_norm1"),
    SharedInput(("self_attn.out_proj",), "self_attn.v_proj"),
    SharedInput(("mlp.fc1",), "layer_norm2"),
)
TEXT_INPUTS = (
    SharedInput(QKV, "input_layernorm"),
    SharedInput(("self_attn.o_proj",), "self_attn.v_proj"),
    SharedInput(("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
    SharedInput(("mlp.down_proj",), "mlp.up_proj"),
)


@dataclass(frozen=True)
class ScaledMatrix:
    """``matrix`` approximates the weight with its columns multiplied by their scales and its rows divided by
    ``row_scale`` (N,), as the bias has to be. ``norm_scale`` (K,): what the norm before it has to be divided by, told
    by the first of its readers."""

    matrix: SolvedMatrix
    row_scale: torch.Tensor
    norm_scale: np.ndarray | None


def solve_scaled(
    block: nn.Module,
    weights: Mapping[str, torch.Tensor],
    grids: Mapping[str, Grid],
    statistics: Mapping[str, InputStatistics],
) -> dict[str, ScaledMatrix]:
    """The Linears of one block, ``weights`` (N, K) by name within it. The norms of ``block`` are divided by the scales
    of what reads them. Raises QuantizeError as `solve` does."""
    exact = {name: torch.from_numpy(checked(w.numpy(), statistics[name].name)) for name, w in weights.items()}
    hessians = {name: hessian_of(statistics[name], w, statistics[name].name) for name, w in exact.items()}
    columns = {name: torch.ones(w.shape[1], dtype=w.dtype) for name, w in exact.items()}
    rows = {name: torch.ones(len(w), dtype=w.dtype) for name, w in exact.items()}
    norm_scales: dict[str, np.ndarray] = {}
    for shared in VISION_INPUTS if hasattr(block, "layer_norm1") else TEXT_INPUTS:
        wanted = {*shared.readers, *(() if shared.is_normed else (shared.maker,))}
        if not wanted <= exact.keys():
            continue
        first, heads = shared.readers[0], None
        magnitude = statistics[first].magnitude / statistics[first].tokens
        if not shared.is_normed:
            heads = Heads(len(exact[shared.maker]), len(magnitude), block.self_attn.head_dim)
            magnitude = heads.read(heads.made(magnitude))
        stacked = torch.cat([exact[name] for name in shared.readers])
        scale = best_scale(stacked, grids[first], hessians[first], magnitude)
        columns |= dict.fromkeys(shared.readers, scale)
        if heads is not None:
            rows[shared.maker] = heads.made(scale)
            continue
        norm_scales[first] = scale.numpy().astype(np.float32)
        for value in block.get_submodule(shared.maker).parameters():  # weight, and bias where it has one
            value.data /= scale.to(value.dtype)
    return {
        name: ScaledMatrix(
            rounded_under(w * columns[name] / rows[name][:, None], grids[name], hessians[name], columns[name]),
            rows[name],
            norm_scales.get(name),
        )
        for name, w in exact.items()
    }


def divided_norms(tensors: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The norms that have to change where matrices have those ``norm_scale``, by matrix name; of ``tensors``, the
    model's parameters by name."""
    changed = {}
    for shared in (*VISION_INPUTS, *TEXT_INPUTS):
        ending = f".{shared.readers[0]}"
        for reader, scale in scales.items():
            norm = f"{reader.removesuffix(ending)}.{shared.maker}"
            for name in (f"{norm}.weight", f"{norm}.bias") if reader.endswith(ending) else ():
                if name in tensors:
                    changed[name] = tensors[name] / scale
    return changed


@dataclass(frozen=True)
class Heads:
    """Key-value heads are made once (``rows``) and read by several query heads (``columns``) each."""

    rows: int
    columns: int
    head_dim: int

    def made(self, values: torch.Tensor) -> torch.Tensor:
        """Of the columns (K,), the mean over those that read the same row (N,)."""
        if self.rows == self.columns:
            return values
        return values.reshape(-1, self.columns // self.rows, self.head_dim).mean(1).reshape(-1)

    def read(self, values: torch.Tensor) -> torch.Tensor:
        """Of the rows (N,), for each column (K,)."""
        if self.rows == self.columns:
            return values
        return values.reshape(-1, self.head_dim).repeat_interleave(self.columns // self.rows, 0).reshape(-1)


def best_scale(weight: torch.Tensor, grid: Grid, hessian: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Of the columns (K,) of ``weight`` (N, K), which read inputs of that mean ``magnitude`` (K,)."""
    candidates = [normalised(magnitude.clamp_min(1e-8) ** float(exponent)) for exponent in EXPONENTS]
    errors = [rounded_under(weight * scale, grid, hessian, scale).output_error for scale in candidates]
    return candidates[int(np.argmin(errors))]


def normalised(scale: torch.Tensor) -> torch.Tensor:
    return scale / (scale.max() * scale.min()).sqrt()


def rounded_under(weight: torch.Tensor, grid: Grid, hessian: torch.Tensor, scale: torch.Tensor) -> SolvedMatrix:
    """``weight`` (N, K) rounded; it reads inputs of that ``hessian``, divided by ``scale`` (K,)."""
    return solved(weight, grid, *rounded(weight, grid), hessian / scale / scale[:, None])
