# SPDX-License-Identifier: Apache-2.0
"""Batches of event streams: some frames of each clip, warped, mirrored where the classes allow it, and for every frame
the tokens to compute, chosen as the gate chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from edge_vlm.events.surface import SurfaceConfig
from offline_compress.models.event_vit import put, take
from offline_compress.train.event_frames import LEVELS, EventFrames

# Channels of a surface (rising, falling, recency, right, left, down, up) where polarities, or left and right, change
# places. Small turns of the picture leave the direction of motion as it is.
SWAPPED, LEFT_RIGHT = (1, 0, 2, 3, 4, 5, 6), (0, 1, 2, 4, 3, 5, 6)
_CHOICE_NOISE = 1.0  # of the logarithm of how much a token changed, when those to compute are chosen


@dataclass(frozen=True)
class Augmentation:
    """Bounds of what varies, all uniform in -bound..bound.

    rotation_rad, log_scale, shear: of the picture; shift: in parts of its side; elastic: standard deviation of the
    smooth distortion, in half sides; log_gain: of the values. mirrored: for each class the class of its mirror image,
    -1 where the class must not be mirrored; empty: never. swap_polarity: rising and falling light change places in
    half of the clips.
    """

    rotation_rad: float = 0.0
    log_scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    log_gain: float = 0.0
    mirrored: tuple[int, ...] = ()
    swap_polarity: bool = False


@dataclass(frozen=True)
class Schedule:
    """``steps`` frames of a clip, in order; a step computes between ``fewest`` and ``most`` of all tokens (as parts),
    or with the probability ``dense`` all of them."""

    steps: int
    fewest: float
    most: float
    dense: float


@dataclass(frozen=True)
class EventBatch:
    """``patches`` float32 (B, T, N, C P P), ``labels`` (B,), ``active`` T times int64 (B, A_t), or None for all."""

    patches: torch.Tensor
    labels: torch.Tensor
    active: tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class EventBatches:
    """``batch(step)`` depends on the seed and the step alone, so that a resumed training sees the same data."""

    data: EventFrames
    surface: SurfaceConfig
    augmentation: Augmentation
    schedule: Schedule
    size: int
    seed: int = 0

    def batch(self, step: int) -> EventBatch:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clips = torch.randint(len(self.data), (self.size,), generator=random).numpy()
        kept, times = self.data.frames.shape[1], self.schedule.steps
        moments = torch.rand((self.size, kept), generator=random).argsort(1)[:, :times].sort(1).values.numpy()
        drawn = self.data.frames[clips[:, None], moments]  # (B, T, N, C P P)
        pictures = self.pictures(torch.from_numpy(drawn).float() / LEVELS)
        pictures, labels = self.mirror(pictures, torch.from_numpy(self.data.labels[clips]), random)
        patches = self.patches(self.warp(pictures, random))
        return EventBatch(patches, labels, self.choose(patches, random))

    def choose(self, patches: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor | None, ...]:
        """The tokens to compute at each step: mostly those that changed most since they were computed last."""
        known, chosen = torch.zeros_like(patches[:, 0]), []
        for now in patches.unbind(1):
            if float(torch.rand((), generator=random)) < self.schedule.dense:
                chosen.append(None)
                known = now
                continue
            share = float(torch.empty(()).uniform_(self.schedule.fewest, self.schedule.most, generator=random))
            change = (now - known).square().sum(2).add(1e-6).log()
            change = change + _CHOICE_NOISE * torch.randn(change.shape, generator=random)
            active = change.topk(max(1, round(share * self.surface.tokens)), dim=1).indices.sort(1).values
            chosen.append(active)
            known = put(known, active, take(now, active))
        return tuple(chosen)

    def mirror(self, pictures: torch.Tensor, labels: torch.Tensor, random: torch.Generator):
        """Left and right exchanged in half of the clips whose class has a mirror image, and polarities likewise."""
        if self.augmentation.mirrored:
            other = torch.tensor(self.augmentation.mirrored)[labels]
            chosen = (torch.rand(self.size, generator=random) < 0.5) & (other >= 0)
            turned = self.reordered(pictures.flip(-1), LEFT_RIGHT)
            pictures = torch.where(chosen[:, None, None, None], turned, pictures)
            labels = torch.where(chosen, other, labels)
        if self.augmentation.swap_polarity:
            chosen = torch.rand(self.size, generator=random) < 0.5
            swapped = self.reordered(pictures, SWAPPED)
            pictures = torch.where(chosen[:, None, None, None], swapped, pictures)
        return pictures, labels

    def reordered(self, pictures: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
        """The channels of each frame in another order, as far as there are so many."""
        channels = self.surface.channels
        return pictures.unflatten(1, (-1, channels))[:, :, list(order[:channels])].flatten(1, 2)

    def warp(self, pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """One affine and elastic distortion per clip, (B, C T, S, S) -> the same."""
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
        """(B, T, N, C P P) -> (B, C T, S, S)."""
        grid, side, channels = self.surface.grid, self.surface.patch_size, self.surface.channels
        parts = patches.view(*patches.shape[:2], grid, grid, channels, side, side).permute(0, 1, 4, 2, 5, 3, 6)
        return parts.reshape(len(patches), -1, self.surface.size, self.surface.size)

    def patches(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, C T, S, S) -> (B, T, N, C P P)."""
        grid, side, channels = self.surface.grid, self.surface.patch_size, self.surface.channels
        parts = pictures.view(len(pictures), -1, channels, grid, side, grid, side).permute(0, 1, 3, 5, 2, 4, 6)
        return parts.reshape(len(pictures), -1, self.surface.tokens, channels * side**2)
