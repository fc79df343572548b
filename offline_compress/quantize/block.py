# SPDX-License-Identifier: Apache-2.0
"""Quantises one block without training: it is calibrated on what the quantised blocks before it give, and aims at what
the float model gives. Passes over the calibration pairs go chunk by chunk, from and to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import nn

from offline_compress.quantize.awq import solve_scaled
from offline_compress.quantize.block_work import States
from offline_compress.quantize.grids import Grid
from offline_compress.quantize.solved_linear import SolvedLinear, exported
from offline_compress.quantize.solvers import rounded, solve
from offline_compress.saliency.statistics import InputStatistics, clipped_to_mean_one, top_share
from offline_compress.streaming.block import Block, spread_tokens, watched

Grids = Mapping[str, Grid]  # by module name; what it lacks is not solved
SALIENCY = ("answers", "block", "none")  # the model's answers; the error of the block itself (paper Q); all alike
Importance = dict[str, torch.Tensor]  # by Linear within a block, of the valid tokens of all pairs, mean 1


@dataclass(frozen=True)
class SolveConfig:
    """``saliency``: one of `SALIENCY`, what tokens count by. ``gram_tokens``: of a pair that enter the Gram matrices,
    evenly spread; images have many tokens alike."""

    solver: str = "gptq"
    saliency: str = "answers"
    gram_tokens: int = 256

    def to_json(self) -> dict:
        return asdict(self)


def quantise_block(
    block: Block, states: States, after: States, grids: Grids, config: SolveConfig, importance: Importance | None = None
) -> dict[str, SolvedLinear]:
    """Solves the block's planned Linears, leaves their dequantised weights in it, and writes what the quantised model
    gives after it, and the float model, where that is not known. By the names of the Linears within the block.
    ``importance``: of tokens, where it is known beforehand."""
    layers = block.linears(grids)
    if not after.wanted.is_whole():
        with torch.no_grad():
            for first, last in states.wanted.chunks():
                after.wanted.write(first, block(states.wanted.read(first, last)))
    solved: dict[str, SolvedLinear] = {}
    if layers:
        wanted_grids = {child: grids[f"{block.name}.{child}"] for child in layers}
        if config.saliency == "block":
            importance = block_saliency(block, layers, wanted_grids, states, after)
        statistics = block_statistics(block, layers, states, importance, config)
        shares = {child: None if importance is None else top_share(importance[child]) for child in layers}
        if config.solver == "awq":
            found = scaled_layers(block, layers, wanted_grids, statistics)
        else:
            found = solved_layers(block, layers, wanted_grids, statistics, config.solver)
        for child, matrix in found:
            solved[child] = replace(matrix, saliency_share=shares[child])
            layers[child].weight.data.copy_(torch.from_numpy(matrix.weights.dequantised()))
            if matrix.weights.bias is not None:
                layers[child].bias.data.copy_(torch.from_numpy(matrix.weights.bias))
    with torch.no_grad():
        for first, last in states.hidden.chunks():
            after.hidden.write(first, block(states.hidden.read(first, last)))
    return solved


def solved_layers(
    block: Block, layers: Iterable[str], grids: Grids, statistics: dict[str, InputStatistics], solver: str
) -> Iterator[tuple[str, SolvedLinear]]:
    """Each by itself; its statistics are let go of after it."""
    for child in layers:
        weight, bias = block.float_parameters(child)
        result = solve(weight, grids[child], statistics.pop(child), solver)
        yield child, SolvedLinear(exported(result, bias), result.weight_error, result.output_error)


def scaled_layers(
    block: Block, layers: Iterable[str], grids: Grids, statistics: Mapping[str, InputStatistics]
) -> Iterator[tuple[str, SolvedLinear]]:
    """All together: one is scaled for the next (AWQ)."""
    weights = {child: block.float_parameters(child)[0] for child in layers}
    for child, scaled in solve_scaled(block.module, weights, grids, statistics).items():
        _, bias = block.float_parameters(child)
        bias = None if bias is None else (bias / scaled.row_scale.numpy()).astype(np.float32)
        result = scaled.matrix
        yield (
            child,
            SolvedLinear(
                exported(result, bias), result.weight_error, result.output_error, norm_scale=scaled.norm_scale
            ),
        )


def block_saliency(
    block: Block, layers: dict[str, nn.Linear], grids: dict[str, Grid], states: States, after: States
) -> Importance:
    """Saliency of every valid token for every Linear: one backward pass of the block's squared error, its weights
    rounded. (tokens of all pairs,), clipped, mean 1. Source: paper Q."""
    found: dict[str, list[torch.Tensor]] = {child: [] for child in layers}
    with rounded_weights(block, layers, grids), torch.enable_grad():
        for first, last in states.hidden.chunks():
            valid = block.valid[first:last]
            outputs: dict[str, torch.Tensor] = {}
            hidden = states.hidden.read(first, last).requires_grad_(True)
            with watched(layers, lambda child, _x, z, kept=outputs: kept.__setitem__(child, z)):
                error = block(hidden) - after.wanted.read(first, last)
            loss = error.float().square().mul(valid[..., None]).sum()
            gradients = torch.autograd.grad(loss, list(outputs.values()))
            for child, gradient in zip(outputs, gradients, strict=True):
                found[child].append(gradient[valid].float().abs().mean(-1))
    return {child: clipped_to_mean_one(torch.cat(values)) for child, values in found.items()}


def block_statistics(
    block: Block,
    layers: dict[str, nn.Linear],
    states: States,
    importance: Importance | None,
    config: SolveConfig,
) -> dict[str, InputStatistics]:
    """With GPTAQ, also how far the inputs are from those of the float model."""
    statistics = {child: InputStatistics(f"{block.name}.{child}", layer.in_features) for child, layer in layers.items()}
    shifted, begin = config.solver == "gptaq", 0
    for first, last in states.hidden.chunks():
        valid = block.valid[first:last]
        chosen = spread_tokens(first, last, valid.shape[1], config.gram_tokens)[valid]
        end = begin + int(valid.sum())
        inputs: dict[str, torch.Tensor] = {}
        wanted: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            with watched(layers, lambda child, x, _z, kept=inputs: kept.__setitem__(child, x)):
                block(states.hidden.read(first, last))
            if shifted:
                with watched(layers, lambda child, x, _z, kept=wanted: kept.__setitem__(child, x)):
                    block(states.wanted.read(first, last))
        for child in layers:
            g = None if importance is None else importance[child][begin:end][chosen]
            target = wanted[child][valid][chosen] if shifted else None
            statistics[child].add(inputs[child][valid][chosen], g, target)
        begin = end
    return statistics


@contextmanager
def rounded_weights(block: Block, layers: dict[str, nn.Linear], grids: dict[str, Grid]) -> Iterator[None]:
    """The block as round-to-nearest would have it; float again afterwards."""
    try:
        for child, layer in layers.items():
            weight = block.vlm.float_parameter(f"{block.name}.{child}.weight")
            codes, fitted = rounded(weight, grids[child])
            scale, zero = fitted.columns(weight.shape[1])
            layer.weight.data.copy_(scale * (codes - zero))
        yield
    finally:
        for child, layer in layers.items():
            layer.weight.data.copy_(block.vlm.float_parameter(f"{block.name}.{child}.weight"))
