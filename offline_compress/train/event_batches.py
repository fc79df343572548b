# SPDX-License-Identifier: Apache-2.0
"""Batches of event frames: warped, mirrored where classes allow it, with stale patches as the gate leaves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from edge_vlm.events.surface import CHANNELS, SurfaceConfig
from offline_compress.train.event_frames import LEVELS, EventFrames


@dataclass(frozen=True)
class Augmentation:
    """Bounds of what varies, all uniform in -bound..bound.

    rotation_rad, log_scale, shear: of the picture; shift: in parts of its side; elastic: standard deviation of the
    smooth distortion, in half sides; log_gain: of the values. mirrored: for each class the class of its mirror image,
    -1 where the class must not be mirrored; empty: never. stale: most of the patches that show an earlier frame of the
    clip. dropped: most of the tokens that are left out.
    """

    rotation_rad: float
    log_scale: float
    shear: float
    shift: float
    elastic: float
    log_gain: float
    stale: float
    dropped: float
    mirrored: tuple[int, ...] = ()
    swap_polarity: bool = False


@dataclass(frozen=True)
class EventBatches:
    """``batch(step)`` depends on the seed and the step alone, so that a resumed training sees the same data."""

    data: EventFrames
    surface: SurfaceConfig
    augmentation: Augmentation
    size: int
    seed: int = 0

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """patches float32 (B, N, 3 P P), labels (B,), kept token indices (B, K)."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clip = torch.randint(len(self.data), (self.size,), generator=random).numpy()
        frame = torch.randint(self.data.frames.shape[1], (self.size,), generator=random).numpy()
        earlier = np.maximum(frame - 1, 0)
        pair = np.stack([self.data.frames[clip, frame], self.data.frames[clip, earlier]], 1)  # (B, 2, N, 3 P P)
        labels = torch.from_numpy(self.data.labels[clip])
        pictures = self.pictures(torch.from_numpy(pair).float() / LEVELS)
        pictures, labels = self.mirror(pictures, labels, random)
        now, before = self.patches(self.warp(pictures, random)).unbind(1)
        stale = torch.rand(now.shape[:2], generator=random) < self.augmentation.stale * torch.rand(
            (self.size, 1), generator=random
        )
        patches = torch.where(stale[..., None], before, now)
        return patches, labels, self.kept(random)

    def kept(self, random: torch.Generator) -> torch.Tensor:
        tokens = self.surface.tokens
        count = max(1, round(tokens * (1 - self.augmentation.dropped * float(torch.rand((), generator=random)))))
        return torch.rand((self.size, tokens), generator=random).argsort(1)[:, :count]

    def mirror(self, pictures: torch.Tensor, labels: torch.Tensor, random: torch.Generator):
        """Left and right exchanged in half of the samples whose class has a mirror image, and polarities likewise."""
        if self.augmentation.mirrored:
            other = torch.tensor(self.augmentation.mirrored)[labels]
            chosen = (torch.rand(self.size, generator=random) < 0.5) & (other >= 0)
            pictures = torch.where(chosen[:, None, None, None], pictures.flip(-1), pictures)
            labels = torch.where(chosen, other, labels)
        if self.augmentation.swap_polarity:
            chosen = torch.rand(self.size, generator=random) < 0.5
            swapped = pictures[:, [1, 0, 2, 4, 3, 5]]
            pictures = torch.where(chosen[:, None, None, None], swapped, pictures)
        return pictures, labels

    def warp(self, pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """One affine and elastic distortion per sample, (B, 6, S, S) -> the same."""
        bounds, count = self.augmentation, len(pictures)

        def uniform(bound: float, *shape: int) -> torch.Tensor:
            return bound * (2 * torch.rand((count, *shape), generator=random) - 1)

        angle, shear, scale = uniform(bounds.rotation_rad), uniform(bounds.shear), uniform(bounds.log_scale, 2).exp()
        shift = 2 * uniform(bounds.shift, 2)
        cosine, sine = angle.cos(), angle.sin()
        first = torch.stack([cosine * scale[:, 0], (shear - sine) * scale[:, 1], shift[:, 0]], 1)
        second = torch.stack([sine * scale[:, 0], cosine * scale[:, 1], shift[:, 1]], 1)
        grid = functional.affine_grid(torch.stack([first, second], 1), list(pictures.shape), align_corners=False)
        if bounds.elastic:
            coarse = bounds.elastic * torch.randn((count, 2, 4, 4), generator=random)
            smooth = functional.interpolate(coarse, size=pictures.shape[-2:], mode="bicubic", align_corners=True)
            grid = grid + smooth.permute(0, 2, 3, 1)
        warped = functional.grid_sample(pictures, grid, align_corners=False)
        return (warped * uniform(bounds.log_gain, 1, 1, 1).exp()).clamp(0, 1)

    def pictures(self, patches: torch.Tensor) -> torch.Tensor:
        """(B, 2, N, 3 P P) -> (B, 6, S, S)."""
        grid, side = self.surface.grid, self.surface.patch_size
        parts = patches.view(-1, 2, grid, grid, CHANNELS, side, side).permute(0, 1, 4, 2, 5, 3, 6)
        return parts.reshape(len(patches), 2 * CHANNELS, self.surface.size, self.surface.size)

    def patches(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 6, S, S) -> (B, 2, N, 3 P P)."""
        grid, side = self.surface.grid, self.surface.patch_size
        parts = pictures.view(-1, 2, CHANNELS, grid, side, grid, side).permute(0, 1, 3, 5, 2, 4, 6)
        return parts.reshape(len(pictures), 2, self.surface.tokens, CHANNELS * side**2)
