# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose update of a matrix is made orthogonal (Jordan et al. 2024), for the matrices inside a model."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from offline_compress.train.precision import multiplies_bfloat16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose iteration drives all singular values towards 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """``update = orthogonal(nesterov momentum)``, scaled for tall matrices; weight decay apart from the gradient.

    torch.optim has it from 2.9 on; this project runs with older releases too.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(state["momentum"], group["momentum"]))
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (rows, columns) with the same singular vectors and singular values near 1, by Newton-Schulz.

    Computed in bfloat16 where that is faster: it is exact enough for a direction."""
    a, b, c = _COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x.to(torch.bfloat16) if multiplies_bfloat16() else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
