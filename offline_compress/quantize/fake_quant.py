# SPDX-License-Identifier: Apache-2.0
"""PyTorch modules that compute with quantised weights and activations as the exported operators do.

Two paths, one arithmetic. *Exact* (no autocast): int8 activations times integer codes, summed without
rounding, ``y = float(acc) * (a * scale) + bias``; this is what the operator library computes. *Fast* (in
training, or under bf16 autocast): the product of the dequantised operands.

Gradients pass every rounding unchanged (straight-through): source paper T, equation of QAT.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from custom_ops.spec import WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.export.weights import LinearWeights
from offline_compress.quantize.int8 import LIMIT
from offline_compress.quantize.rows import QuantisedRows

EXACT_FLOAT32 = 1 << 24  # integers below are exact in float32


class RoundActivations(torch.autograd.Function):
    """x (..., K) rounded to int8 per row and back: ``a * q``. Gradient: identity."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return dequantised_rows(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def dequantised_rows(x: torch.Tensor) -> torch.Tensor:
    """The nearest int8 value of each activation, times its row's scale; float32."""
    wide = x.float()
    amax = wide.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return (wide * (LIMIT / amax)).round().mul(amax * (1 / LIMIT))


def quantised_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``q`` float32 integers -127..127 (..., K) and ``a`` (..., 1), as the operators round: half to even."""
    x = x.float()
    amax = x.abs().amax(-1, keepdim=True)
    inverse = torch.where(amax > 0, LIMIT / amax, torch.zeros_like(amax))
    return (x * inverse).round().clamp(-LIMIT, LIMIT), amax / LIMIT


class LowBitRows(torch.autograd.Function):
    """Dequantised ternary or binary rows of a latent (N, K) and a scale (N,).

    Ternary: ``[u >= .5] - [u <= -.5]``; binary: the sign, 0 counting as +1. Gradients: identity through the
    codes, exact for the scale.
    """

    @staticmethod
    def forward(ctx, latent: torch.Tensor, scale: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
        codes = low_bit_codes(latent, weight_format)
        ctx.save_for_backward(codes.to(torch.int8), scale)
        return codes.mul_(scale[:, None])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        codes, scale = ctx.saved_tensors
        return gradient * scale[:, None], (gradient * codes).sum(1), None


class Int8Rows(torch.autograd.Function):
    """A weight (N, K) rounded to int8 per row and back. Gradient: identity."""

    @staticmethod
    def forward(ctx, weight: torch.Tensor) -> torch.Tensor:
        codes, scale = int8_codes(weight)
        return codes * scale[:, None]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def low_bit_codes(latent: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    if weight_format == WeightFormat.BINARY:
        return torch.where(latent >= 0, 1.0, -1.0)
    return (latent >= 0.5).float().sub_((latent <= -0.5).float())


def int8_codes(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes as float32 (N, K) and scale (N,); a row of zeros has scale 0."""
    amax = weight.abs().amax(1)
    inverse = torch.where(amax > 0, LIMIT / amax, torch.zeros_like(amax))
    return (weight * inverse[:, None]).round().clamp(-LIMIT, LIMIT), amax / LIMIT


class FakeQuantLinear(nn.Module):
    """Takes the place of nn.Linear. Subclasses hold the trained parameters and give codes and scale."""

    weight_format: WeightFormat
    in_features: int
    out_features: int

    def __init__(self, out_features: int, in_features: int, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone().float())

    def codes_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer codes as float32 (N, K), scale float32 (N,); no gradient."""
        raise NotImplementedError

    def dequantised(self) -> torch.Tensor:
        """codes * scale (N, K) with straight-through gradients."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(x.device.type) or (self.training and torch.is_grad_enabled()):
            return functional.linear(RoundActivations.apply(x), self.dequantised(), self.bias)
        return self.exact(x)

    @torch.no_grad()
    def exact(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., K) -> (..., N), as the operator library computes it."""
        q, a = quantised_rows(x)
        codes, scale = self.codes_and_scale()
        largest = LIMIT * self.in_features * (LIMIT if self.weight_format == WeightFormat.INT8 else 1)
        if largest >= EXACT_FLOAT32:
            q, codes = q.double(), codes.double()
        y = functional.linear(q, codes).float() * (a * scale)
        return y if self.bias is None else y + self.bias

    def to_weights(self) -> LinearWeights:
        codes, scale = self.codes_and_scale()
        bias = None if self.bias is None else self.bias.detach().float().cpu().numpy().copy()
        return LinearWeights(
            self.weight_format, codes.to(torch.int8).cpu().numpy(), scale.float().cpu().numpy().copy(), bias
        )


class LowBitLinear(FakeQuantLinear):
    """Ternary or binary: latent u (N, K) in [-1, 1] and a learned scale (N,).

    Starts with the quantizer's codes: ``u = clip(w / m, -1, 1)`` (paper T), m twice the row's threshold, nudged
    onto the codes where another rule (TWN) put the threshold elsewhere.
    """

    def __init__(
        self, weight: torch.Tensor, start: QuantisedRows, bias: torch.Tensor | None, weight_format: WeightFormat
    ) -> None:
        super().__init__(*weight.shape, bias)
        self.weight_format = weight_format
        codes = torch.from_numpy(np.array(start.codes)).float()
        scale = torch.from_numpy(start.scale.copy())
        latent = (weight.detach().float() / scale.clamp_min(1e-30)[:, None]).clamp(-1, 1)
        self.latent = nn.Parameter(latent_with_codes(latent, codes, weight_format))
        self.scale = nn.Parameter(scale)

    def codes_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        return low_bit_codes(self.latent.detach(), self.weight_format), self.scale.detach()

    def dequantised(self) -> torch.Tensor:
        return LowBitRows.apply(self.latent, self.scale, self.weight_format)

    @torch.no_grad()
    def clip_latent(self) -> None:
        """To be called after each optimiser step."""
        self.latent.clamp_(-1, 1)


def latent_with_codes(latent: torch.Tensor, codes: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """The latent, moved just across the threshold where it would not give ``codes``."""
    wrong = low_bit_codes(latent, weight_format) != codes
    if weight_format == WeightFormat.BINARY:
        edge = torch.where(codes > 0, 0.0, -1e-3)
    else:
        edge = torch.where(codes == 0, 0.499 * torch.sign(latent), 0.5 * codes)
    return torch.where(wrong, edge, latent)


class Int8Linear(FakeQuantLinear):
    """8-bit: the trained parameter is the float weight itself, its scale max|w| / 127 of the row at every step."""

    weight_format = WeightFormat.INT8

    def __init__(self, weight: torch.Tensor | nn.Parameter, bias: torch.Tensor | None) -> None:
        super().__init__(*weight.shape, bias)
        shared = isinstance(weight, nn.Parameter)  # tied to the embeddings
        self.weight = weight if shared else nn.Parameter(weight.detach().clone().float())

    def codes_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        return int8_codes(self.weight.detach())

    def dequantised(self) -> torch.Tensor:
        return Int8Rows.apply(self.weight)


class Int8Embedding(nn.Module):
    """Token vectors read from an int8 table (vocab, D)."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.num_embeddings, self.embedding_dim = weight.shape

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, Int8Rows.apply(self.weight))

    def to_weights(self) -> LinearWeights:
        return Int8Linear(self.weight, None).to_weights()


class PatchProjection(nn.Module):
    """A convolution whose stride is its kernel, as a fake-quantised Linear over patches in order channel, y, x."""

    def __init__(self, linear: FakeQuantLinear, patch_size: int) -> None:
        super().__init__()
        self.linear = linear
        self.patch_size = patch_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (B, C, H, W) -> (B, D, H / P, W / P)."""
        batch, channels, height, width = pixels.shape
        size, rows, columns = self.patch_size, height // self.patch_size, width // self.patch_size
        if height % size or width % size:
            raise QuantizeError(f"an image of {width}x{height} is not made of {size}x{size} patches", "resize it")
        patches = pixels.reshape(batch, channels, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
        y = self.linear(patches.reshape(batch, rows * columns, -1))  # (B, rows * columns, D)
        return y.transpose(1, 2).reshape(batch, -1, rows, columns)

    def to_weights(self) -> LinearWeights:
        return self.linear.to_weights()
