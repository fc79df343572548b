# SPDX-License-Identifier: Apache-2.0
"""Training batches of photographs: all captions of a photo in one sequence behind one image, which is encoded once.

A sequence is the prompt, then the captions; each begins with the prompt's last token again, sees the prompt and itself
only, and continues the prompt's positions. So every caption is learned as if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from offline_compress.evaluate.caption_metrics import words
from offline_compress.export.prompt import Prompt
from offline_compress.models.photo_views import PhotoViews
from offline_compress.train.caption_batches import answer_ids, normalised, prompt_ids
from offline_compress.train.packed_captions import packed

SIDES = frozenset({"left", "right"})


class PhotoBatches:
    """Batch `step` depends on the seed and `step` alone."""

    def __init__(
        self, views: PhotoViews, captions: Sequence[tuple[str, ...]], tokenizer, prompt: Prompt, size: int,
        topics: Sequence[str], seed: int = 0,
    ) -> None:  # fmt: skip
        self.views, self.captions, self.size, self.seed = views, captions, size, seed
        self.pad, self.prompt = tokenizer.pad_token_id, prompt_ids(tokenizer, prompt)
        self.answers = [answer_ids(tokenizer, texts) for texts in captions]
        self.sided = [[bool(SIDES & set(words(text))) for text in texts] for texts in captions]
        index = {topic: number for number, topic in enumerate(topics)}
        self.topics = np.zeros((len(captions), len(topics)), np.float32)
        for row, texts in zip(self.topics, captions, strict=True):
            for text in texts:
                row[[index[word] for word in set(words(text)) if word in index]] += 1 / len(texts)

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """pixel_values (B, 1, 3, H, W), features (B, 49, c) of the teacher, topics (B, words): the share of captions
        with that word, and what `packed` gives."""
        per_epoch = max(1, len(self.captions) // self.size)
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.captions))
        chosen = np.sort(order[position * self.size : (position + 1) * self.size])
        rng = np.random.default_rng([self.seed, 1, step])
        views = (chosen + epoch) % len(self.views)
        pixels = np.stack([self.views.pixels[v][i] for v, i in zip(views, chosen, strict=True)])
        answers = []
        for photo, view in zip(chosen, views, strict=True):
            kept = [a for a, sided in zip(self.answers[photo], self.sided[photo], strict=True)
                    if not (sided and self.views.mirrored(view))]  # fmt: skip
            answers.append(kept or self.answers[photo][:1])
        features = np.stack([self.views.features[v][i] for v, i in zip(views, chosen, strict=True)])
        return {
            **packed(self.prompt, answers, self.pad),
            "pixel_values": normalised(recoloured(pixels, rng)),
            "features": torch.from_numpy(features.astype(np.float32)),
            "topics": torch.from_numpy(self.topics[chosen]),
        }


class TextBatches:
    """Captions without images, ``captions_per_row`` behind one prompt that lacks its image."""

    def __init__(self, captions: Sequence[str], tokenizer, prompt: Prompt, size: int, seed: int = 0):
        self.answers = answer_ids(tokenizer, tuple(captions))
        self.pad, self.size, self.seed = tokenizer.pad_token_id, size, seed
        self.prompt = prompt_ids(tokenizer, Prompt(prompt.template, "", prompt.question))
        self.captions_per_row = 12

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """What `packed` gives."""
        taken = self.size * self.captions_per_row
        per_epoch = max(1, len(self.answers) // taken)
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.answers))
        chosen = order[position * taken : (position + 1) * taken]
        rows = np.array_split(chosen, self.size)
        return packed(self.prompt, [[self.answers[i] for i in row] for row in rows if len(row)], self.pad)


def recoloured(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (B, H, W, 3) to float32 in [0, 1] with another light, contrast and colour balance each."""
    shape = (len(images), 1, 1)
    gain = rng.uniform(0.8, 1.2, (*shape, 1)) * rng.uniform(0.93, 1.07, (*shape, 3))
    shift = rng.uniform(-0.08, 0.08, (*shape, 1)) + 0.5 * (1 - gain)
    values = images.astype(np.float32) * (gain / 255).astype(np.float32) + shift.astype(np.float32)
    return np.clip(values, 0, 1, out=values)
