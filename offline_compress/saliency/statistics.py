# SPDX-License-Identifier: Apache-2.0
"""What a solver knows of a layer's inputs: the Gram matrix, weighted by token saliency."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from offline_compress.errors import QuantizeError


@dataclass
class InputStatistics:
    """Sums over calibration tokens x (K,) with saliency g: the Hessian ``sum g x x'`` and, for GPTAQ, the shift
    ``sum g (x_float - x) x'`` between what the float model and the quantised model so far feed the layer.

    With ``diagonal`` only that of the Hessian is kept, for very wide matrices. Source: paper Q (VLMQ): ``H = X G X'``.
    """

    name: str
    in_features: int
    diagonal: bool = False
    tokens: int = field(default=0, init=False)
    hessian: torch.Tensor = field(init=False)  # (K, K) float64, or (K,)
    shift: torch.Tensor = field(init=False)  # (K, K) float64
    magnitude: torch.Tensor = field(init=False)  # (K,) sum of |x|

    def __post_init__(self) -> None:
        shape = (self.in_features,) if self.diagonal else (self.in_features, self.in_features)
        self.hessian = torch.zeros(shape, dtype=torch.float64)
        self.shift = torch.zeros(0, 0, dtype=torch.float64)  # until a float input is given
        self.magnitude = torch.zeros(self.in_features, dtype=torch.float64)

    def add(
        self, inputs: torch.Tensor, saliency: torch.Tensor | None = None, float_inputs: torch.Tensor | None = None
    ) -> None:
        """inputs and float_inputs (tokens, K); saliency (tokens,), none: all 1. Raises QuantizeError if not finite."""
        x = inputs.detach().reshape(-1, self.in_features).float()
        if not torch.isfinite(x).all():
            raise QuantizeError(f"{self.name}: its inputs are not finite", "look at the calibration data and the model")
        weighted = x if saliency is None else x * checked_saliency(saliency, len(x), self.name)[:, None]
        self.hessian += ((weighted * x).sum(0) if self.diagonal else weighted.T @ x).double()
        if float_inputs is not None:
            wanted = float_inputs.detach().reshape(-1, self.in_features).float()
            shift = ((wanted - x).T @ weighted).double()
            self.shift = self.shift + shift if self.shift.numel() else shift
        self.magnitude += x.abs().sum(0).double()
        self.tokens += len(x)


def checked_saliency(saliency: torch.Tensor, tokens: int, name: str) -> torch.Tensor:
    g = saliency.detach().reshape(-1).float()
    if len(g) != tokens or not torch.isfinite(g).all() or (g < 0).any():
        raise QuantizeError(f"{name}: saliency of {len(g)} values for {tokens} tokens, or negative or not finite")
    return g


def clipped_to_mean_one(saliency: torch.Tensor) -> torch.Tensor:
    """Saliency of tokens (tokens,) without its outliers, mean 1; all 1 where there is nothing to tell tokens apart (no
    gradient at all).

    The clip at 1.5 interquartile ranges above the third quartile is ours: a few tokens would otherwise own the Hessian.
    """
    low, high = (float(torch.quantile(sample(saliency), q)) for q in (0.25, 0.75))
    clipped = saliency.clamp(max=high + 1.5 * (high - low))
    mean = clipped.mean()
    return clipped / mean if mean > 0 else torch.ones_like(clipped)


def top_share(saliency: torch.Tensor, share: float = 0.1) -> float:
    """What the most salient tenth of the tokens holds of all saliency."""
    count = max(1, round(share * len(saliency)))
    return float(saliency.topk(count).values.sum() / saliency.sum().clamp_min(1e-30))


def sample(values: torch.Tensor, most: int = 1 << 20) -> torch.Tensor:
    """torch.quantile takes 16 million values at most."""
    return values[:: max(1, len(values) // most)]
