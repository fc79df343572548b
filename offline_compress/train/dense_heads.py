# SPDX-License-Identifier: Apache-2.0
"""Linear heads on the vision encoder's last hidden states that name what each patch shows; used in training only."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from offline_compress.models.patch_labels import CHANNELS, IGNORED

# Kinds are what takes longest to learn and what captions depend on most; the rest is easy or rare.
_CHANNEL_WEIGHTS = {
    "cover": 1.0, "colour": 0.3, "centre": 0.3, "order": 0.2, "count": 0.3, "relation": 0.1, "surface": 0.1,
}  # fmt: skip
# Most patches show background and no object's middle, which is learned in no time.
_RARE = {"cover": 0.05, "centre": 0.1}  # weight of class 0


class DenseHeads(nn.Module):
    """One linear layer for all channels of `patch_labels`."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, sum(CHANNELS.values()))

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """hidden (B, patches, d), labels (B, patches, c): the weighted sum of losses, and accuracy of each channel.

        The accuracies of `cover` and `centre` are those on patches with something on them.
        """
        logits = self.linear(hidden).float().flatten(0, 1).split(list(CHANNELS.values()), dim=-1)
        labels = labels.flatten(0, 1)
        losses, accuracy = [], {}
        for channel, (name, values) in enumerate(zip(CHANNELS, logits, strict=True)):
            target = labels[:, channel]
            chosen = (target != IGNORED).nonzero()[:, 0]
            if not len(chosen):
                continue
            target, values = target[chosen], values[chosen]
            weight = torch.where(target > 0, 1.0, _RARE.get(name, 1.0))
            loss = (functional.cross_entropy(values, target, reduction="none") * weight).sum() / weight.sum()
            losses.append(_CHANNEL_WEIGHTS[name] * loss)
            hits, counted = (values.argmax(-1) == target).float(), (weight == 1).float()
            accuracy[name] = float((hits * counted).sum() / counted.sum().clamp_min(1))
        return torch.stack(losses).sum(), accuracy
