# SPDX-License-Identifier: Apache-2.0
"""One block of a streamed model, as a function of hidden states, and what its Linears take and give."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from offline_compress.streaming.streamed_vlm import StreamedVlm


@dataclass(frozen=True)
class Block:
    """A filled block of a model, and the pairs: ``valid`` (pairs, T) marks the tokens that are no padding."""

    vlm: StreamedVlm
    blocks: str
    name: str
    valid: torch.Tensor

    @property
    def module(self) -> nn.Module:
        return self.vlm.model.get_submodule(self.name)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        arguments = self.vlm.family.block_arguments(self.vlm.model, self.blocks, hidden)
        result = self.module(hidden, **arguments)
        return result[0] if isinstance(result, tuple) else result

    def float_parameters(self, child: str) -> tuple[torch.Tensor, np.ndarray | None]:
        """Weight (N, K) and bias (N,) of a Linear, as the checkpoint has them."""
        has_bias = self.module.get_submodule(child).bias is not None
        bias = self.vlm.float_parameter(f"{self.name}.{child}.bias").numpy() if has_bias else None
        return self.vlm.float_parameter(f"{self.name}.{child}.weight"), bias

    def linears(self, names: Container[str]) -> dict[str, nn.Linear]:
        """Those that ``names`` names in full, by their names within the block."""
        return {
            child: module
            for child, module in self.module.named_modules()
            if isinstance(module, nn.Linear) and f"{self.name}.{child}" in names
        }


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


def spread_tokens(first: int, last: int, tokens: int, most: int) -> torch.Tensor:
    """Which tokens of the pairs first..last count, (pairs, tokens): every n-th, each pair beginning elsewhere."""
    step = -(-tokens // most)
    return (torch.arange(tokens)[None] + torch.arange(first, last)[:, None]) % step == 0
