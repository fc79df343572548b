# SPDX-License-Identifier: Apache-2.0
"""Greedy captions and answer log-probabilities of a PyTorch model, in batches.

``normalise`` is that of the model's own processor, `ImageSettings.normalised`; models trained here take [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from offline_compress.export.prompt import LONGEST_CAPTION, Prompt
from offline_compress.models.packed_captions import encode, packed, packed_logits
from offline_compress.models.pixels import normalised
from offline_compress.models.token_sequences import IGNORED_LABEL, answer_ids, prompt_ids

BATCH = 50
Normalise = Callable[[np.ndarray], torch.Tensor]  # float32 (B, H, W, 3) in [0, 1] to (B, 1, 3, H, W)


class Images(Protocol):
    """uint8 (rows, cols, 3) of the model's size; a list, or what makes them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...


@torch.no_grad()
def greedy_captions(
    model: nn.Module,
    tokenizer,
    prompt: Prompt,
    images: Images,
    max_new_tokens: int = LONGEST_CAPTION,
    batch: int = BATCH,
    report: Callable[[int], None] = lambda done: None,
    normalise: Normalise = normalised,
) -> list[str]:
    """The most likely token at each step, up to the end marker."""
    model.eval()
    captions: list[str] = []
    for pixels in pixel_batches(images, batch, normalise):
        ids = torch.tensor(prompt_ids(tokenizer, prompt)).expand(len(pixels), -1)
        tokens = decode(model, ids, pixels, tokenizer.eos_token_id, max_new_tokens)
        captions += [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        report(len(captions))
    return captions


@torch.no_grad()
def beam_captions(
    model: nn.Module, tokenizer, prompt: Prompt, images: Images, beams: int,
    max_new_tokens: int = LONGEST_CAPTION, batch: int = BATCH, report: Callable[[int], None] = lambda done: None,
    normalise: Normalise = normalised,
) -> list[str]:  # fmt: skip
    """As `greedy_captions`, by beam search: the likeliest of the captions that ``beams`` hypotheses end in."""
    model.eval()
    captions: list[str] = []
    start = torch.tensor(prompt_ids(tokenizer, prompt))
    for pixels in pixel_batches(images, batch, normalise):
        ids = start.expand(len(pixels), -1)
        tokens = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels.to(model.dtype), num_beams=beams,
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        captions += [text.strip() for text in tokenizer.batch_decode(tokens[:, len(start) :], skip_special_tokens=True)]
        report(len(captions))
    return captions


def decode(model: nn.Module, ids: torch.Tensor, pixels: torch.Tensor, end: int, most: int) -> list[list[int]]:
    """Greedy decoding with a KV cache; ids (B, T) prompt, pixels (B, 1, 3, H, W). Tokens before the end marker."""
    cache, rows = DynamicCache(), []
    ids, pixels = ids.to(model.device), pixels.to(model.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    logits = model(
        input_ids=ids, pixel_values=pixels.to(model.dtype), past_key_values=cache, use_cache=True, logits_to_keep=1
    ).logits
    for _ in range(most):
        chosen = logits[:, -1].argmax(-1)  # (B,)
        rows.append(torch.where(ended, end, chosen))
        ended |= chosen == end
        if ended.all():
            break
        logits = model(input_ids=rows[-1][:, None], past_key_values=cache, use_cache=True).logits
    return [row[: row.index(end)] if end in row else row for row in torch.stack(rows, 1).tolist()]


@torch.no_grad()
def answer_log_probabilities(
    model: nn.Module,
    tokenizer,
    prompt: Prompt,
    images: Images,
    captions: Sequence[str],
    normalise: Normalise = normalised,
) -> Iterator[np.ndarray]:
    """Per image the log-probabilities (tokens + 1,) of its caption and the end marker, teacher-forced."""
    model.eval()
    start = prompt_ids(tokenizer, prompt)
    answers = [answer_ids(tokenizer, (caption,))[0] for caption in captions]
    for first, pixels in zip(range(0, len(images), BATCH), pixel_batches(images, BATCH, normalise), strict=True):
        chunk = answers[first : first + BATCH]
        longest = max(map(len, chunk))
        ids = torch.tensor([[*start, *answer, *[tokenizer.pad_token_id] * (longest - len(answer))] for answer in chunk])
        ids = ids.to(model.device)
        logits = model(
            input_ids=ids, pixel_values=pixels.to(ids.device, model.dtype), use_cache=False, logits_to_keep=longest + 1
        ).logits
        scores = torch.log_softmax(logits[:, :-1].float(), -1).gather(2, ids[:, len(start) :, None])[..., 0]
        yield from (row[: len(answer)].cpu().numpy() for row, answer in zip(scores, chunk, strict=True))


@torch.no_grad()
def reference_log_probabilities(
    model: nn.Module, tokenizer, prompt: Prompt, images: Images, captions: Sequence[Sequence[str]],
    report: Callable[[int], None] = lambda done: None, normalise: Normalise = normalised,
) -> list[list[np.ndarray]]:  # fmt: skip
    """As `answer_log_probabilities`, for several captions of each image: all in one sequence behind the image."""
    model.eval()
    start, rows = prompt_ids(tokenizer, prompt), []
    answers = [answer_ids(tokenizer, tuple(texts)) for texts in captions]
    for first, pixels in zip(range(0, len(images), BATCH), pixel_batches(images, BATCH, normalise), strict=True):
        chunk = answers[first : first + BATCH]
        batch = packed(start, chunk, tokenizer.pad_token_id)
        logits = packed_logits(model, batch, encode(model, pixels[:, 0]))
        scores = torch.log_softmax(logits.float(), -1)
        known = batch["labels"] != IGNORED_LABEL
        flat = iter(scores.gather(1, batch["labels"][known][:, None])[:, 0].split([len(a) for c in chunk for a in c]))
        rows += [[next(flat).numpy() for _ in texts] for texts in chunk]
        report(len(rows))
    return rows


def pixel_batches(images: Images, size: int, normalise: Normalise) -> Iterator[torch.Tensor]:
    """float32 (B, 1, 3, H, W)."""
    for first in range(0, len(images), size):
        chunk = [images[index] for index in range(first, min(first + size, len(images)))]
        yield normalise(np.stack(chunk).astype(np.float32) / 255)
