# SPDX-License-Identifier: Apache-2.0
"""Puts fake-quantised modules into a Hugging Face model after a plan, and reads the trained weights out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from custom_ops.spec import WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import EMBED_TOKENS, HEAD, linear_names
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.quantize.fake_quant import (
    FakeQuantLinear,
    Int8Embedding,
    Int8Linear,
    LowBitLinear,
    PatchProjection,
)
from offline_compress.quantize.plan import PlannedMatrix
from offline_compress.quantize.report import MatrixReport, matrix_report, quantise_matrix
from offline_compress.quantize.rows import QuantisedRows

SOLVED = (WeightFormat.TERNARY, WeightFormat.BINARY)  # what training can take over from a solver


def float_weights(model: nn.Module) -> ModelWeights:
    """The float weights of a Hugging Face model that no one has quantised yet."""
    tensors = {name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()}
    return ModelWeights.from_tensors(model.config.to_dict(), tensors, "the model")


def quantise_model(
    model: nn.Module, table: Sequence[PlannedMatrix], solved: Mapping[str, LinearWeights] | None = None
) -> list[MatrixReport]:
    """Replaces, in place, every planned module by its fake-quantised twin; float32 lines stay as they are.

    Codes and scales are the method's own, rounded, or those ``solved`` by a solver.
    Raises QuantizeError for a matrix with NaN, infinity or only zeros, a model already quantised, or a module
    that is no Linear, embedding or patch convolution.
    """
    if any(isinstance(module, FakeQuantLinear) for module in model.modules()):
        raise QuantizeError("the model is quantised already", "load the float model again")
    source = float_weights(model)
    reports = []
    for line in table:
        weights = source.linears[line.name]
        start = quantise_matrix(weights.codes, line)
        if solved is not None and line.method.format in SOLVED:
            start = QuantisedRows.of_weights(weights.codes, solved[line.name])
        if start is None:
            reports.append(matrix_report(line, weights, weights, 0.0))
            continue
        replaced = replacement(model.get_submodule(line.name), line, start)
        set_module(model, line.name, replaced)
        if line.name == HEAD and source.tied:
            set_module(model, EMBED_TOKENS, Int8Embedding(replaced.weight))
        reports.append(matrix_report(line, weights, replaced.to_weights(), start.relative_error))
    return reports


def replacement(module: nn.Module, line: PlannedMatrix, start) -> nn.Module:
    if isinstance(module, nn.Embedding):
        require_int8(line)
        return Int8Embedding(nn.Parameter(module.weight.detach().clone().float()))
    if isinstance(module, nn.Conv2d):
        size = module.kernel_size[0]
        if module.stride != module.kernel_size or module.padding != (0, 0) and module.padding != "valid":
            raise QuantizeError(f"{line.name}: a convolution with overlapping patches", "plan it as float32")
        flat = module.weight.detach().reshape(module.out_channels, -1)
        return PatchProjection(linear_for(flat, module.bias, line, start), size)
    if isinstance(module, nn.Linear):
        if line.name == HEAD:
            require_int8(line)
        return linear_for(module.weight.detach(), module.bias, line, start)
    raise QuantizeError(f"{line.name}: a {type(module).__name__} cannot be quantised", "plan it as float32")


def require_int8(line: PlannedMatrix) -> None:
    if line.method.format != WeightFormat.INT8:
        raise QuantizeError(
            f"{line.name}: token tables and the head are trained as int8 or float32, not {line.method.name}",
            "change its rule in the plan, or do not train: --steps 0",
        )


def linear_for(weight: torch.Tensor, bias: torch.Tensor | None, line: PlannedMatrix, start) -> FakeQuantLinear:
    if line.method.group is not None:
        raise QuantizeError(f"{line.name}: {line.method.name} is not trained", "round or solve it: --steps 0")
    if line.method.format == WeightFormat.INT8:
        return Int8Linear(weight, bias)
    return LowBitLinear(weight, start, bias, line.method.format)


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def low_bit_layers(model: nn.Module) -> list[LowBitLinear]:
    return [module for module in model.modules() if isinstance(module, LowBitLinear)]


def to_model_weights(model: nn.Module, config: dict) -> ModelWeights:
    """What export needs: codes and scales of the fake-quantised modules, float of all others.

    ``config`` is the Hugging Face config.json. Raises QuantizeError naming a scale or norm that is not finite.
    """
    rest = {name: value.detach().float().cpu().numpy().copy() for name, value in model.state_dict().items()}
    tied = isinstance(model.get_submodule(EMBED_TOKENS), Int8Embedding) and (
        model.get_submodule(EMBED_TOKENS).weight is getattr(model.get_submodule(HEAD), "weight", None)
    )
    tied = tied or model.config.tie_word_embeddings
    linears: dict[str, LinearWeights] = {}
    for name in linear_names(config, tied):
        module = model.get_submodule(name)
        linears[name] = weights_of(module)
        check_finite(name, linears[name].scale, linears[name].bias)
    owned = (*linears, EMBED_TOKENS)
    tensors = {name: value for name, value in rest.items() if not name.startswith(tuple(f"{o}." for o in owned))}
    for name, value in tensors.items():
        check_finite(name, value)
    return ModelWeights(config, linears, tensors)


def weights_of(module: nn.Module) -> LinearWeights:
    if isinstance(module, (FakeQuantLinear, Int8Embedding, PatchProjection)):
        return module.to_weights()
    weight = module.weight.detach().float().cpu().numpy()
    bias = getattr(module, "bias", None)
    return LinearWeights.of_float(
        weight.reshape(len(weight), -1), None if bias is None else bias.detach().float().cpu().numpy().copy()
    )


def check_finite(name: str, *values: np.ndarray | None) -> None:
    for value in values:
        if value is not None and not np.isfinite(value).all():
            raise QuantizeError(f"{name}: not finite after training", "train again with a smaller learning rate")
