# SPDX-License-Identifier: Apache-2.0
"""Training batches of photographs: all captions of a photo in one sequence behind one image, which is encoded once.

A sequence is the prompt, then the captions; each begins with the prompt's last token again, sees the prompt and itself
only, and continues the prompt's positions. So every caption is learned as if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from offline_compress.export.prompt import Prompt
from offline_compress.models.packed_captions import packed
from offline_compress.models.pixels import normalised
from offline_compress.models.token_sequences import answer_ids, prompt_ids
from offline_compress.pairs.captioned_images import words
from offline_compress.train.photo_views import PhotoViews, View

Batch = dict[str, torch.Tensor]
SIDES = frozenset({"left", "right"})


class PhotoBatches:
    """Photos with all that is told of them. Batch `step` depends on the seed and `step` alone."""

    def __init__(
        self,
        views: PhotoViews,
        captions: Sequence[tuple[str, ...]],
        tokenizer,
        prompt: Prompt,
        size: int,
        seed: int = 0,
    ) -> None:
        self.views, self.size, self.seed = views, size, seed
        self.pad, self.prompt = tokenizer.pad_token_id, prompt_ids(tokenizer, prompt)
        self.answers = [answer_ids(tokenizer, texts) for texts in captions]
        self.sided = [[bool(SIDES & set(words(text))) for text in texts] for texts in captions]

    def batch(self, step: int) -> Batch:
        """What `view_tensors` and `packed` give."""
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = photos_of(step, len(self.views), self.size, self.seed, 0)
        views = [self.views.told(photo, rng) for photo in chosen]
        answers = [self.told(photo, view) for photo, view in zip(chosen, views, strict=True)]
        return {**packed(self.prompt, answers, self.pad), **view_tensors(views)}

    def told(self, photo: int, view: View) -> list[list[int]]:
        """Of a mirrored view nothing that speaks of left and right, where there is anything else."""
        kept = [answer for answer, sided in zip(self.answers[photo], self.sided[photo], strict=True)
                if not (sided and view.mirrored)]  # fmt: skip
        return kept or self.answers[photo][:1]


class GlimpseBatches:
    """Parts of photos without captions. Batch `step` depends on the seed and `step` alone."""

    def __init__(self, views: PhotoViews, size: int, seed: int = 0) -> None:
        self.views, self.size, self.seed = views, size, seed

    def batch(self, step: int) -> Batch:
        """What `view_tensors` gives."""
        rng = np.random.default_rng([self.seed, 3, step])
        chosen = photos_of(step, len(self.views), self.size, self.seed, 4)
        return view_tensors([self.views.glimpse(photo, rng) for photo in chosen])


class TextBatches:
    """Captions without images, ``captions_per_row`` behind one prompt that lacks its image."""

    def __init__(self, captions: Sequence[str], tokenizer, prompt: Prompt, size: int, seed: int = 0):
        self.answers = answer_ids(tokenizer, tuple(captions))
        self.pad, self.size, self.seed = tokenizer.pad_token_id, size, seed
        self.prompt = prompt_ids(tokenizer, Prompt(prompt.template, "", prompt.question))
        self.captions_per_row = 12

    def batch(self, step: int) -> Batch:
        """What `packed` gives."""
        chosen = photos_of(step, len(self.answers), self.size * self.captions_per_row, self.seed, 2)
        rows = np.array_split(chosen, self.size)
        return packed(self.prompt, [[self.answers[i] for i in row] for row in rows if len(row)], self.pad)


class Ahead:
    """Makes the batch of the next step in a thread while the one before is learned from."""

    def __init__(self, make: Callable[[int], Batch], steps: int) -> None:
        self.make, self.steps = make, steps
        self.pool = ThreadPoolExecutor(1)
        self.pending: tuple[int, Future] | None = None

    def batch(self, step: int) -> Batch:
        if self.pending is None or self.pending[0] != step:
            self.pending = (step, self.pool.submit(self.make, step))
        batch = self.pending[1].result()
        after = step + 1
        self.pending = (after, self.pool.submit(self.make, after)) if after < self.steps else None
        return batch


def photos_of(step: int, count: int, size: int, seed: int, stream: int) -> np.ndarray:
    """``size`` of ``count`` numbers, in ascending order: every number once per pass, in another order each."""
    size = min(size, count)
    epoch, position = divmod(step, count // size)
    order = np.random.default_rng([seed, stream, epoch]).permutation(count)
    return np.sort(order[position * size : (position + 1) * size])


def view_tensors(views: Sequence[View]) -> Batch:
    """pixel_values (B, 1, 3, H, W), and each of the teacher's maps (B, side * side, channels)."""
    pixels = np.stack([view.pixels for view in views]).astype(np.float32) / 255
    maps = {name: torch.from_numpy(np.stack([view.maps[name] for view in views])) for name in views[0].maps}
    return {"pixel_values": normalised(pixels), **maps}
