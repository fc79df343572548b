# SPDX-License-Identifier: Apache-2.0
"""Several captions of one image in one sequence, so that the image is encoded once.

A sequence is the prompt, then the captions; each begins with the prompt's last token again, sees the prompt and itself
only, and continues the prompt's positions. So every caption is read as if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from offline_compress.models.token_sequences import IGNORED_LABEL

PADDING = -1  # segment


def packed(prompt: list[int], answers: Sequence[Sequence[list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """input_ids, labels (of the same positions), position_ids (B, T) and attention_mask bool (B, 1, T, T)."""
    start = len(prompt) - 1
    length = start + max(sum(map(len, row)) for row in answers)
    ids = np.full((len(answers), length), pad)
    labels, positions = np.full_like(ids, IGNORED_LABEL), np.zeros_like(ids)
    segments = np.full_like(ids, PADDING)
    ids[:, :start], positions[:, :start], segments[:, :start] = prompt[:-1], np.arange(start), 0
    for row, captions in enumerate(answers):
        first = start
        for segment, answer in enumerate(captions, start=1):
            last = first + len(answer)
            ids[row, first:last], labels[row, first:last] = [prompt[-1], *answer[:-1]], answer
            positions[row, first:last], segments[row, first:last] = np.arange(start, start + len(answer)), segment
            first = last
    keys, queries = segments[:, None, :], segments[:, :, None]
    seen = np.tril(np.ones((length, length), bool)) & ((keys == 0) | (keys == queries))
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "position_ids": torch.from_numpy(positions),
        "attention_mask": torch.from_numpy(seen[:, None]),
    }


def encode(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> what stands for the image in a prompt (B, image tokens, d), of encoder and connector."""
    return model.model.connector(model.model.vision_model(pixels.to(model.dtype)).last_hidden_state)


def encode_with_states(model: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """As `encode`, and the patches (B, patches, d) before and after each of the encoder's blocks."""
    seen = model.model.vision_model(pixels.to(model.dtype), output_hidden_states=True)
    return model.model.connector(seen.last_hidden_state), seen.hidden_states


def packed_logits(model: nn.Module, batch: dict[str, torch.Tensor], image: torch.Tensor | None) -> torch.Tensor:
    """Logits (labels, V) of the labelled positions of `packed` sequences.

    ``image``: as `encode` gives; None: without.
    """
    ids = batch["input_ids"]
    embedded = model.get_input_embeddings()(ids)
    if image is not None:
        embedded = embedded.masked_scatter((ids == model.config.image_token_id)[..., None], image.flatten(0, 1))
    hidden = model.model.text_model(
        inputs_embeds=embedded,
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[batch["labels"] != IGNORED_LABEL])
