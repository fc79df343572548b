# SPDX-License-Identifier: Apache-2.0
"""Prompt and answer as tokens, and the labels that they are learned by."""

from __future__ import annotations

import torch

from offline_compress.export.prompt import Prompt

IGNORED_LABEL = -100  # of a token that is no part of an answer


def sequences(prompt: list[int], answers: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Prompt and answer, padded at the end; labels are the answer's tokens."""
    length, start = max(map(len, answers)), len(prompt)
    ids = torch.full((len(answers), start + length), pad)
    labels = torch.full_like(ids, IGNORED_LABEL)
    ids[:, :start] = torch.tensor(prompt)
    mask = torch.ones_like(ids)
    for row, answer in enumerate(answers):
        end = start + len(answer)
        ids[row, start:end] = labels[row, start:end] = torch.tensor(answer)
        mask[row, end:] = 0
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def prompt_ids(tokenizer, prompt: Prompt) -> list[int]:
    text = prompt.template.format(image=prompt.image, question=prompt.question)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_ids(tokenizer, texts: tuple[str, ...]) -> list[list[int]]:
    """Each caption with the space before it and the end marker after it."""
    rows = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
    return [[*row, tokenizer.eos_token_id] for row in rows]
