# SPDX-License-Identifier: Apache-2.0
"""Quantises a model without training, block by block: each block is calibrated on what the quantised blocks before it
give, and aims at what the float model gives.

Memory: the model, the hidden states of the calibration pairs (twice), the statistics of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from offline_compress.export.weights import TEXT, VISION
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.grids import Grid
from offline_compress.quantize.solvers import SolvedMatrix, solve
from offline_compress.saliency.statistics import InputStatistics, clipped_to_mean_one

HALVES = (f"{VISION}.encoder.layers", f"{TEXT}.layers")
Grids = Mapping[str, Grid]  # by module name; what it lacks stays float
Calls = list["BlockCall"]


@dataclass
class BlockCall:
    """What one calibration batch gives to a block: hidden states (B, T, D) of the float and of the quantised model,
    the block's other arguments, and which tokens are no padding (B, T)."""

    wanted: torch.Tensor
    hidden: torch.Tensor
    arguments: dict
    valid: torch.Tensor


class FirstBlockReached(Exception):
    """Ends a forward pass that was made for the inputs of a block."""


def quantise_blockwise(
    model: nn.Module,
    batches: Sequence[Mapping[str, torch.Tensor]],
    grids: Grids,
    solver: str = "gptq",
    saliency: bool = True,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, SolvedMatrix]:
    """Replaces the weights of the planned Linears of ``model``, in place, by their dequantised values.

    ``batches``: pixel_values, input_ids, attention_mask of calibration pairs. ``report`` is told the number of blocks
    done. Raises QuantizeError, naming the module, for no batches, a name that is no Linear of a block, inputs that
    are not finite.
    """
    if not batches:
        raise QuantizeError("no calibration pairs", "give images with captions")
    check_names(model, grids)
    model.eval()
    starts = [first_inputs(model, half, batches) for half in HALVES]  # of the float model
    result: dict[str, SolvedMatrix] = {}
    done = 0
    for half, wanted in zip(HALVES, starts, strict=True):
        calls = first_inputs(model, half, batches)
        for call, start in zip(calls, wanted, strict=True):
            call.wanted = start.hidden
        for index, block in enumerate(model.get_submodule(half)):
            result |= quantise_block(block, f"{half}.{index}", calls, grids, solver, saliency)
            done += 1
            report(done)
    return result


def check_names(model: nn.Module, grids: Grids) -> None:
    modules = dict(model.named_modules())
    for name in grids:
        if not isinstance(modules.get(name), nn.Linear) or not name.startswith(HALVES):
            raise QuantizeError(f"{name}: no Linear of a block", "name modules as Hugging Face does")


def first_inputs(model: nn.Module, half: str, batches: Sequence[Mapping[str, torch.Tensor]]) -> Calls:
    """What the first block of a half is called with, ``wanted`` being the same as ``hidden``."""
    calls: Calls = []

    def keep(_module, positional: tuple, named: dict) -> None:
        hidden = positional[0] if positional else named.pop("hidden_states")
        calls.append(BlockCall(hidden, hidden, {**named, "past_key_values": None} if "past_key_values" in named
                               else named, torch.ones(hidden.shape[:2], dtype=torch.bool)))  # fmt: skip
        if len(positional) > 1:
            calls[-1].arguments["attention_mask"] = positional[1]
        raise FirstBlockReached

    hook = model.get_submodule(half)[0].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        for batch in batches:
            given = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}
            try:
                with torch.no_grad():
                    model(**given, use_cache=False)
            except FirstBlockReached:
                pass
            if half.startswith(TEXT):
                calls[-1].valid = batch["attention_mask"].bool()
    finally:
        hook.remove()
    return calls


def quantise_block(
    block: nn.Module, name: str, calls: Calls, grids: Grids, solver: str, saliency: bool
) -> dict[str, SolvedMatrix]:
    """Quantises one block in place and moves ``calls`` on to its outputs."""
    layers = {
        child: module for child, module in block.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.{child}" in grids
    }  # fmt: skip
    with torch.no_grad():
        targets = [output(block, call.wanted, call) for call in calls]
    solved: dict[str, SolvedMatrix] = {}
    if layers:
        wanted_grids = {child: grids[f"{name}.{child}"] for child in layers}
        importance = block_saliency(block, layers, wanted_grids, calls, targets) if saliency else None
        statistics = block_statistics(block, name, layers, calls, importance, solver == "gptaq")
        for child, layer in layers.items():
            result = solve(layer.weight, wanted_grids[child], statistics[child], solver)
            layer.weight.data.copy_(result.dequantised())
            solved[f"{name}.{child}"] = result
    with torch.no_grad():
        for call, target in zip(calls, targets, strict=True):
            call.hidden, call.wanted = output(block, call.hidden, call), target
    return solved


def output(block: nn.Module, hidden: torch.Tensor, call: BlockCall) -> torch.Tensor:
    result = block(hidden, **call.arguments)
    return result[0] if isinstance(result, tuple) else result


def block_saliency(
    block: nn.Module, layers: dict[str, nn.Linear], grids: Grids, calls: Calls, targets: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Saliency of every valid token for every Linear: one backward pass of the block's squared error, its weights
    rounded. (tokens of all batches,), clipped, mean 1. Source: paper Q."""
    found: dict[str, list[torch.Tensor]] = {child: [] for child in layers}
    with rounded_weights(layers, grids), torch.enable_grad():
        for call, target in zip(calls, targets, strict=True):
            outputs: dict[str, torch.Tensor] = {}
            with watched(layers, lambda child, _x, z, kept=outputs: kept.__setitem__(child, z)):
                loss = (output(block, call.hidden, call) - target)[call.valid].square().mean()
            gradients = torch.autograd.grad(loss, list(outputs.values()))
            for child, gradient in zip(outputs, gradients, strict=True):
                found[child].append(gradient[call.valid].abs().mean(-1))
    return {child: clipped_to_mean_one(torch.cat(values)) for child, values in found.items()}


def block_statistics(
    block: nn.Module,
    name: str,
    layers: dict[str, nn.Linear],
    calls: Calls,
    importance: dict[str, torch.Tensor] | None,
    shifted: bool,
) -> dict[str, InputStatistics]:
    """``shifted``: also how far the inputs are from those of the float model, for GPTAQ."""
    statistics = {child: InputStatistics(f"{name}.{child}", layer.in_features) for child, layer in layers.items()}
    first = 0
    for call in calls:
        inputs: dict[str, torch.Tensor] = {}
        wanted: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            with watched(layers, lambda child, x, _z, kept=inputs: kept.__setitem__(child, x)):
                output(block, call.hidden, call)
            if shifted:
                with watched(layers, lambda child, x, _z, kept=wanted: kept.__setitem__(child, x)):
                    output(block, call.wanted, call)
        last = first + int(call.valid.sum())
        for child in layers:
            g = None if importance is None else importance[child][first:last]
            target = wanted[child][call.valid] if shifted else None
            statistics[child].add(inputs[child][call.valid], g, target)
        first = last
    return statistics


@contextmanager
def watched(layers: dict[str, nn.Linear], see: Callable[[str, torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """``see(child, inputs, outputs)`` at every call of the Linears."""
    hooks = [
        layer.register_forward_hook(lambda _m, x, z, child=child: see(child, x[0], z))
        for child, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def rounded_weights(layers: dict[str, nn.Linear], grids: Grids) -> Iterator[None]:
    """The block as round-to-nearest would have it; float again afterwards."""
    kept = {child: layer.weight.data.clone() for child, layer in layers.items()}
    try:
        for child, layer in layers.items():
            layer.weight.data.copy_(solve(layer.weight, grids[child]).dequantised())
        yield
    finally:
        for child, layer in layers.items():
            layer.weight.data.copy_(kept[child])
