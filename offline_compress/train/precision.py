# SPDX-License-Identifier: Apache-2.0
"""bfloat16 where the processor multiplies it: there a step takes half the time or less, elsewhere it is emulated and
takes many times as long as in float32."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import torch
from torch import nn


@cache
def multiplies_bfloat16(device_type: str = "cpu") -> bool:
    """Whether the device has matrix products of bfloat16; of processors those with AMX, AVX-512 BF16 or
    Arm's BF16, which comes with int8 matrices."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags or {"i8mm", "bf16"} <= flags


class WorkingCopy:
    """What forward and backward run on: a bfloat16 copy of a model, or the model itself. Optimisers work on the float32
    model. Casting every operand instead (autocast) would take nearly half of a step's time."""

    def __init__(self, model: nn.Module, bf16: bool) -> None:
        self.model = model
        self.module = copy.deepcopy(model).to(torch.bfloat16) if bf16 else model

    def hand_over_gradients(self) -> None:
        """To the model's parameters, away from the copy's."""
        for parameter, working in self.pairs():
            parameter.grad = None if working.grad is None else working.grad.float()
            working.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """The copy gets the model's weights."""
        for parameter, working in self.pairs():
            working.copy_(parameter)

    def pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        if self.module is self.model:
            return []
        return list(zip(self.model.parameters(), self.module.parameters(), strict=True))
