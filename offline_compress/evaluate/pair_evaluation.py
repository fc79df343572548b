# SPDX-License-Identifier: Apache-2.0
"""Captions of a user's images against their references: a bundle through its .tflite graphs, or a model in PyTorch.

Two perplexities: per token of the model's own vocabulary over the first reference of each image (what perplexity.py
defines), and per word over all references, the end of a caption being one word more: the one that models with different
vocabularies can be compared by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edge_vlm.runtime.bundle import Bundle
from edge_vlm.runtime.text_decoder import TextDecoder
from edge_vlm.runtime.vision_encoder import VisionEncoder
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.footprint import encode_image
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.evaluate.samples import PairSample, Sample, Squares
from offline_compress.pairs.captioned_images import CaptionedImages, words

Progress = Callable[[int], None]


@dataclass(frozen=True)
class PairEvaluation:
    """``metrics`` of greedy captions (or of beam search with ``beams``), see caption_metrics."""

    path: str
    through: str  # ".tflite" or "PyTorch"
    samples: int
    beams: int
    token_perplexity: float
    word_perplexity: float
    metrics: dict[str, float | str | None]
    captions: tuple[str, ...] = field(repr=False, default=())

    def to_json(self) -> dict:
        return {**asdict(self), "captions": list(self.captions)}


def pair_samples(
    pairs: CaptionedImages, most: int | None = None, report: Progress = lambda done: None
) -> tuple[list[Sample], dict[str, str]]:
    """The first ``most`` images that decode, with their references, and why others were skipped. ``report`` gets how
    many were looked at."""
    kept, skipped = pairs.decodable(most, report=report)
    return [PairSample(pairs, index) for index in kept], skipped


def evaluate_tflite(
    path: Path, samples: Sequence[Sample], progress: Progress = lambda done: None, all_references: bool = True
) -> PairEvaluation:
    """A bundle, greedily. ``all_references`` False: per-word perplexity of the first references only."""
    bundle = Bundle.load(path)
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    captions, scores = [], []
    for index, sample in enumerate(samples):
        features, _ = encode_image(encoder, sample.image_rgb)
        captions.append(decoder.generate(features).text)
        scores.append([decoder.score(features, text) for text in told(sample, all_references)])
        progress(index + 1)
    return evaluated(path, ".tflite", samples, captions, scores, 1)


def evaluate_model(
    folder: Path, samples: Sequence[Sample], beams: int = 1, progress: Progress = lambda done: None,
    all_references: bool = True, bf16: bool = False,
) -> PairEvaluation:  # fmt: skip
    """A Hugging Face folder in PyTorch, in float32 or bfloat16. Raises CheckpointError."""
    import torch

    from offline_compress.evaluate.captioning import (
        beam_captions,
        greedy_captions,
        reference_log_probabilities,
    )
    from offline_compress.models.loading import load_vlm

    vlm = load_vlm(folder)
    if bf16:
        vlm.model.to(torch.bfloat16)
    squares = Squares(samples, vlm.image.square)
    options = {"report": progress, "normalise": vlm.image.normalised}
    if beams > 1:
        captions = beam_captions(vlm.model, vlm.tokenizer, vlm.prompt, squares, beams, **options)
    else:
        captions = greedy_captions(vlm.model, vlm.tokenizer, vlm.prompt, squares, **options)
    texts = [told(sample, all_references) for sample in samples]
    scores = reference_log_probabilities(
        vlm.model, vlm.tokenizer, vlm.prompt, squares, texts, normalise=vlm.image.normalised
    )
    return evaluated(folder, "PyTorch, bfloat16" if bf16 else "PyTorch", samples, captions, scores, beams)


def told(sample: Sample, all_references: bool) -> tuple[str, ...]:
    return sample.references if all_references else sample.references[:1]


def evaluated(
    path: Path, through: str, samples: Sequence[Sample], captions: Sequence[str],
    scores: Sequence[Sequence[np.ndarray]], beams: int,
) -> PairEvaluation:  # fmt: skip
    """``scores``: log-probabilities of the tokens of some references of each image."""
    metrics = caption_metrics(captions, [sample.references for sample in samples])
    total = -sum(float(np.sum(row, dtype=np.float64)) for rows in scores for row in rows)
    count = sum(len(words(text)) + 1 for sample, rows in zip(samples, scores, strict=True)
                for text, _ in zip(sample.references, rows, strict=False))  # fmt: skip
    return PairEvaluation(
        str(path), through, len(samples), beams,
        round(from_log_probabilities(rows[0] for rows in scores), 5), round(math.exp(total / count), 5),
        {name: round(value, 5) if isinstance(value, float) else value for name, value in metrics.items()},
        tuple(captions),
    )  # fmt: skip
