# SPDX-License-Identifier: Apache-2.0
"""Whether the exported graphs compute what was trained: the bundle beside its fake-quantised PyTorch twin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from bench.rows import Row
from edge_vlm.runtime.bundle import Bundle
from edge_vlm.runtime.text_decoder import TextDecoder, log_probabilities
from edge_vlm.runtime.vision_encoder import VisionEncoder
from offline_compress.evaluate.captioning import greedy_captions
from offline_compress.evaluate.footprint import encode_image
from offline_compress.evaluate.samples import Sample
from offline_compress.models.loading import LoadedVlm, load_vlm
from offline_compress.quantize.replace import quantise_model
from offline_compress.train.attention import use_plain_attention
from offline_compress.train.checkpoint import load_checkpoint
from offline_compress.train.compression import CHECKPOINT, Source

NOT_TRAINED = "no trained model in {}; make models trains it"


@dataclass(frozen=True)
class Agreement:
    """One scene. ``logits_error`` relative, behind the prompt; ``gap`` (nats): how far the least likely token of our
    greedy caption lies below the twin's best at its place, 0 where all are the twin's own choice."""

    logits_error: float
    gap: float


def twin_rows(models: Path, samples: list[Sample]) -> list[Row]:
    """Relative error of the prefill logits, and greedy captions against the twin's, over ``samples``.

    Rounding to int8 makes small differences of float sums visible: PyTorch differs from itself too where it computes
    attention another way. The last row says how much, for comparison.
    """
    checkpoint, note = models / "ternary.work" / CHECKPOINT, NOT_TRAINED.format(models)
    errors: list[float] = []
    gaps: list[float] = []
    equal = itself = None
    if checkpoint.is_file() and (models / "ternary").is_dir():
        twin, note = trained_twin(models / "float" / "model", checkpoint), ""
        found = agreements(twin, Bundle.load(models / "ternary"), samples)
        errors, gaps = [one.logits_error for one in found], [one.gap for one in found]
        equal, itself = gaps.count(0.0) / len(gaps), equal_to_itself(twin, samples)
    parting = note or "the others part where two tokens are nearly as likely, see the next rows"
    return [
        Row("logits, .tflite against PyTorch twin: median error", median(errors) if errors else None, note=note),
        Row("logits, .tflite against PyTorch twin: largest error", max(errors, default=None), "", 1e-2, note=note),
        Row("captions equal to the twin's", equal, "", 1.0, "higher", parting),
        Row("largest gap of a caption's token to the twin's best", max(gaps, default=None), "nats", note=note),
        Row("captions equal, twin against itself with fused attention", itself, "", None, "higher", note),
    ]


def equal_to_itself(twin: LoadedVlm, samples: list[Sample]) -> float:
    """Share of captions that stay the same when the twin computes attention by PyTorch's fused kernel."""
    images = [sample.image_rgb for sample in samples]
    plain = greedy_captions(twin.model, twin.tokenizer, twin.prompt, images)
    twin.model.set_attn_implementation("sdpa")
    fused = greedy_captions(twin.model, twin.tokenizer, twin.prompt, images)
    use_plain_attention(twin.model)
    return sum(one == other for one, other in zip(plain, fused, strict=True)) / len(samples)


def trained_twin(folder: Path, checkpoint: Path) -> LoadedVlm:
    """The fake-quantised model as training left it, with the attention that training ran."""
    loaded = load_vlm(folder)
    use_plain_attention(loaded.model)
    quantise_model(loaded.model, Source.read(folder, "ternary").table)
    loaded.model.load_state_dict(load_checkpoint(checkpoint)["student"])
    return loaded


def agreements(twin: LoadedVlm, bundle: Bundle, samples: list[Sample]) -> list[Agreement]:
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    prompt, found = decoder.tokenizer.prompt(), []
    for sample in samples:
        features, _ = encode_image(encoder, sample.image_rgb)
        logits = decoder.run("prefill", prompt, 0, features)[-1]
        tokens = np.array(decoder.generate(features).token_ids, np.int64)
        true = teacher_forced(twin.model, np.concatenate([prompt, tokens]), twin.image.pixels(sample.image_rgb))
        true = true[len(prompt) - 1 :]  # (tokens + 1, V): row t predicts token t
        likely = log_probabilities(true[:-1])
        gaps = likely.max(-1) - likely[np.arange(len(tokens)), tokens]
        error = float(np.linalg.norm(logits - true[0]) / np.linalg.norm(true[0]))
        found.append(Agreement(error, float(gaps.max(initial=0.0))))
    return found


@torch.no_grad()
def teacher_forced(model: nn.Module, token_ids: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Logits float32 (tokens, V)."""
    ids = torch.from_numpy(token_ids.astype(np.int64))[None]
    return model(input_ids=ids, pixel_values=torch.from_numpy(pixels)[None, None]).logits[0].float().numpy()
