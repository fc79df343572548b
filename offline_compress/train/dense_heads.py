# SPDX-License-Identifier: Apache-2.0
"""Linear heads on the vision encoder's last hidden states that name what each patch shows; used in training only."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from offline_compress.models.patch_labels import CHANNELS, IGNORED

_BACKGROUND_WEIGHT = 0.15  # most patches show background, which is learned in no time


class DenseHeads(nn.Module):
    """One linear layer for all channels of `patch_labels`."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, sum(CHANNELS.values()))

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """hidden (B, patches, d), labels (B, patches, c): mean loss over channels, and accuracy of each channel.

        The accuracy of `cover` is that on patches with something on them.
        """
        logits = self.linear(hidden).float().flatten(0, 1).split(list(CHANNELS.values()), dim=-1)
        labels = labels.flatten(0, 1)
        losses, accuracy = [], {}
        for channel, (name, values) in enumerate(zip(CHANNELS, logits)):
            target = labels[:, channel]
            chosen = (target != IGNORED).nonzero()[:, 0]
            if not len(chosen):
                continue
            target, values = target[chosen], values[chosen]
            weight = torch.ones(len(target)) if name != "cover" else torch.where(target > 0, 1.0, _BACKGROUND_WEIGHT)
            losses.append((functional.cross_entropy(values, target, reduction="none") * weight).sum() / weight.sum())
            hits, counted = (values.argmax(-1) == target).float(), (weight == 1).float()
            accuracy[name] = float((hits * counted).sum() / counted.sum().clamp_min(1))
        return torch.stack(losses).mean(), accuracy
