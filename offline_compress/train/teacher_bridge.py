# SPDX-License-Identifier: Apache-2.0
"""Between the teacher's features and the encoder's output, in both directions; thrown away after the training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from offline_compress.models.mobilenet_features import CHANNELS, MobileNetFeatures


class TeacherBridge(nn.Module):
    """`adapter` turns the teacher's features into what an encoder would give: the text half learns from these before
    there is an encoder, and the encoder learns to give the same. `features` are the teacher's, foretold from the
    encoder's output: what captions do not ask for yet must not be lost."""

    def __init__(self, hidden_size: int, mean: np.ndarray, spread: np.ndarray) -> None:
        """``mean``, ``spread`` (1280,): of the teacher's features over photographs."""
        super().__init__()
        self.adapter = nn.Sequential(nn.Linear(CHANNELS, hidden_size), nn.LayerNorm(hidden_size))
        self.features = nn.Linear(hidden_size, CHANNELS)
        with torch.no_grad():  # begin with the mean, whatever the encoder gives
            nn.init.zeros_(self.features.weight)
            nn.init.zeros_(self.features.bias)
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy((1 / np.sqrt(spread + 1e-3 * spread.max())).astype(np.float32)))

    def scaled(self, features: torch.Tensor) -> torch.Tensor:
        """A channel of standard deviation d keeps d ** 0.5: the weak ones count, their noise does not rule."""
        return (features - self.mean) * self.scale

    def adapted(self, features: torch.Tensor) -> torch.Tensor:
        """(B, 49, 1280) -> (B, 49, d)."""
        return self.adapter(self.scaled(features))

    def distances(self, hidden: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """hidden (B, 49, d) of the encoder, features (B, 49, 1280): how far it is from the adapted features and its
        foretelling from the teacher's, each as a share of their variance; of patches and of whole images."""
        with torch.no_grad():
            wanted = self.adapted(features)
        return distance(hidden, wanted), distance(self.features(hidden), self.scaled(features))


def distance(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Half of patches', half of images' mean squared error over variance."""
    given, wanted, shares = given.float(), wanted.float(), []
    for a, b in ((given.flatten(0, 1), wanted.flatten(0, 1)), (given.mean(1), wanted.mean(1))):
        shares.append((a - b).square().mean() / b.var(0).mean())
    return sum(shares) / 2


class TeacherEyes(nn.Module):
    """In the place of a vision encoder: the teacher and the adapter. What the text half could say with perfect eyes."""

    def __init__(self, teacher: MobileNetFeatures, bridge: TeacherBridge) -> None:
        super().__init__()
        self.teacher, self.bridge = teacher, bridge

    def forward(self, pixel_values: torch.Tensor, **_) -> SimpleNamespace:
        """(B, 3, H, W) in [-1, 1]."""
        images = ((pixel_values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        seen = np.stack([self.teacher(np.ascontiguousarray(image)) for image in images.numpy()])
        return SimpleNamespace(last_hidden_state=self.bridge.adapted(torch.from_numpy(seen)).to(pixel_values.dtype))
