# SPDX-License-Identifier: Apache-2.0
"""Between the teacher's maps and the captioner's encoder, in both directions; thrown away after the training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from offline_compress.models.mobilenet_features import FEATURES, MAPS, MobileNetFeatures

Maps = dict[str, torch.Tensor]  # of a batch, by name, (B, side * side, channels)
HINTS = tuple(name for name in MAPS if name != FEATURES)  # foretold by blocks inside of the encoder, in this order


class TeacherBridge(nn.Module):
    """`adapter` turns the teacher's features into what encoder and connector would give: the text half learns from
    these before there is an encoder, and the encoder learns to give the same.

    `foretell` tells the teacher's maps from the encoder: its output tells the features (what captions do not ask for
    yet must not be lost), blocks after a third and two thirds of it the finer maps that the teacher has on its way
    there (Romero et al. 2015, hints).
    """

    def __init__(self, hidden_size: int, cells: int, text_size: int, maps: dict[str, np.ndarray]) -> None:
        """``cells``: of the encoder per side. ``maps`` (samples, side * side, channels): of photographs."""
        super().__init__()
        self.cells = cells
        self.adapter = nn.Sequential(nn.Linear(MAPS[FEATURES][1], text_size), nn.LayerNorm(text_size))
        self.foretell = nn.ModuleDict({FEATURES: nn.Linear(text_size, MAPS[FEATURES][1])})
        for name in HINTS:
            side, channels = MAPS[name]
            told = nn.Linear(hidden_size, channels * (side // cells) ** 2)
            self.foretell[name] = nn.Sequential(nn.LayerNorm(hidden_size), told)
        for name, values in maps.items():
            flat = values.reshape(-1, values.shape[-1])
            spread = flat.std(0)
            self.register_buffer(f"{name}_mean", torch.from_numpy(flat.mean(0)))
            self.register_buffer(f"{name}_scale", torch.from_numpy(1 / np.sqrt(spread + 1e-3 * spread.max())))
        with torch.no_grad():  # begin with the mean, whatever the encoder gives
            nn.init.zeros_(self.foretell[FEATURES].weight)
            nn.init.zeros_(self.foretell[FEATURES].bias)

    def scaled(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """A channel of standard deviation d keeps d ** 0.5: the weak ones count, their noise does not rule."""
        return (values - self.get_buffer(f"{name}_mean")) * self.get_buffer(f"{name}_scale")

    def adapted(self, features: torch.Tensor) -> torch.Tensor:
        """(B, 49, 1280) -> (B, 49, text size)."""
        return self.adapter(self.scaled(FEATURES, features))

    def distances(self, image: torch.Tensor, states: tuple[torch.Tensor, ...], maps: Maps) -> dict[str, torch.Tensor]:
        """How far the encoder is from the teacher, each as a share of the teacher's variance.

        ``image`` (B, 49, text size): what encoder and connector give; its `hidden` distance is that to the adapted
        features. ``states`` (B, cells * cells, d): before and after each of the encoder's blocks.
        """
        with torch.no_grad():
            wanted = self.adapted(maps[FEATURES])
        features = distance(self.foretell[FEATURES](image), self.scaled(FEATURES, maps[FEATURES]))
        distances = {"hidden": distance(image, wanted), FEATURES: features}
        for part, name in enumerate(HINTS, start=1):
            told = self.foretell[name](states[part * (len(states) - 1) // (len(HINTS) + 1)])
            taught = by_cell(self.scaled(name, maps[name]), told.shape[1])
            distances[name] = share_of_variance(told.flatten(0, 1), taught.flatten(0, 1))
        return distances


def by_cell(values: torch.Tensor, cells: int) -> torch.Tensor:
    """(B, side * side, channels) -> (B, ``cells``, channels of all fields in one cell), over the same picture."""
    batch, count, channels = values.shape
    side, coarse = int(count**0.5), int(cells**0.5)
    fine = side // coarse
    grid = values.view(batch, coarse, fine, coarse, fine, channels).transpose(2, 3)
    return grid.reshape(batch, cells, fine * fine * channels)


def distance(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Half that of patches, half that of whole images."""
    patches = share_of_variance(given.flatten(0, 1), wanted.flatten(0, 1))
    return (patches + share_of_variance(given.float().mean(1), wanted.float().mean(1))) / 2


def share_of_variance(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the variance of ``wanted`` (samples, channels)."""
    return (given.float() - wanted.float()).square().mean() / wanted.float().var(0).mean()


class TeacherEyes(nn.Module):
    """In the place of a vision encoder whose connector changes nothing: the teacher and the adapter. What the text half
    could say with perfect eyes."""

    def __init__(self, teacher: MobileNetFeatures, bridge: TeacherBridge) -> None:
        super().__init__()
        self.teacher, self.bridge = teacher, bridge

    def forward(self, pixel_values: torch.Tensor, **_) -> SimpleNamespace:
        """(B, 3, H, W) in [-1, 1]."""
        images = ((pixel_values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        seen = np.stack([self.teacher(np.ascontiguousarray(image))[FEATURES] for image in images.numpy()])
        return SimpleNamespace(last_hidden_state=self.bridge.adapted(torch.from_numpy(seen)).to(pixel_values.dtype))
