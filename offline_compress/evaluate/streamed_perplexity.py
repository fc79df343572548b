# SPDX-License-Identifier: Apache-2.0
"""Perplexity of a model that need not fit in memory: its blocks pass one by one over all pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from offline_compress.evaluate.samples import Sample
from offline_compress.export.checkpoint import read_config
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.module_names import HEAD, TEXT
from offline_compress.models.chat_prompt import chat_prompt
from offline_compress.models.folder_tokenizer import open_tokenizer
from offline_compress.models.loading import read_image_settings
from offline_compress.models.token_sequences import answer_ids, prompt_ids, sequences
from offline_compress.streaming.block import Block
from offline_compress.streaming.calibration_pairs import Batches, CalibrationPairs
from offline_compress.streaming.hidden_states import HiddenStates
from offline_compress.streaming.streamed_vlm import StreamedVlm

CHUNK = 8


def sample_batches(folder: Path, samples: Sequence[Sample]) -> Batches:
    """The first caption of each sample, as calibration batches."""
    config = read_config(folder)
    settings, tokenizer = read_image_settings(folder, config), open_tokenizer(folder)
    start = prompt_ids(tokenizer, chat_prompt(tokenizer, read_vision_shape(config).image_tokens))
    batches = []
    for first in range(0, len(samples), CHUNK):
        chunk = samples[first : first + CHUNK]
        answers = [answer_ids(tokenizer, sample.references[:1])[0] for sample in chunk]
        pixels = np.stack([settings.pixels(sample.image_rgb) for sample in chunk])
        batch = sequences(start, answers, tokenizer.pad_token_id)
        batches.append({**batch, "pixel_values": torch.from_numpy(pixels)[:, None]})
    return batches


@torch.no_grad()
def streamed_perplexity(vlm: StreamedVlm, batches: Batches) -> float:
    """Of the answers' tokens, end marker included, as in perplexity.py."""
    pairs = CalibrationPairs(vlm, batches)
    with TemporaryDirectory(prefix="edge_vlm_score_") as folder:
        now = HiddenStates(Path(folder) / "0", pairs.states_shape("image"), vlm.dtype)
        pairs.start_image((now,))
        for number, (half, count) in enumerate(vlm.family.halves(vlm.checkpoint.config)):
            if number:
                before, now = now, HiddenStates(Path(folder) / "1", pairs.states_shape("text"), vlm.dtype)
                pairs.start_text(before, now)
            for index in range(count):
                name = f"{half}.{index}"
                with vlm.loaded(name):
                    block = Block(vlm, half, name, pairs.valid(half))
                    for first, last in now.chunks():
                        now.overwrite(first, block(now.read(first, last)))
        return math.exp(answer_loss(vlm, pairs, now))


def answer_loss(vlm: StreamedVlm, pairs: CalibrationPairs, states: HiddenStates) -> float:
    """Mean negative log-likelihood."""
    answers, ids = pairs.answers(), pairs.token_ids()
    total, count = 0.0, 0
    with vlm.loaded(f"{TEXT}.norm", HEAD) as model:
        for first, last in states.chunks():
            x = vlm.family.head_inputs(model, states.read(first, last))
            for row, chosen, tokens in zip(x, answers[first:last], ids[first:last], strict=True):
                logits = model.get_submodule(HEAD)(row[chosen]).float()
                target = tokens.roll(-1)[chosen]
                total += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
                count += len(target)
    return total / count
