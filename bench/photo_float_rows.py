# SPDX-License-Identifier: Apache-2.0
"""The photo captioner itself, before any compression."""

from __future__ import annotations

from bench.rows import Row
from bench.training_free import Subject
from offline_compress.evaluate.pair_evaluation import evaluate_model

BEAMS = 3
FLOAT_GOALS = {
    "perplexity of a word": (19.05, "lower"), "CIDEr": (0.454, "higher"), "BLEU-4": (0.189, "higher"),
    "ROUGE-L": (0.444, "higher"),
}  # fmt: skip


def photo_float_rows(subject: Subject) -> list[Row]:
    """The captioner itself, with three beams, beside a prefix decoder on frozen features that was seen on this data."""
    identity = {"beams": BEAMS, **subject.identity}
    figures = subject.kept.of("float-beams", identity, lambda: float_figures(subject))
    figures = figures or dict.fromkeys(FLOAT_GOALS)
    return [Row(f"photos: float, {BEAMS} beams: {name}", figures[name], "", goal, better)
            for name, (goal, better) in FLOAT_GOALS.items()]  # fmt: skip


def float_figures(subject: Subject) -> dict[str, float]:
    found = evaluate_model(subject.folder, subject.samples, BEAMS)
    metrics = {"CIDEr": "cider", "BLEU-4": "bleu_4", "ROUGE-L": "rouge_l"}
    return {"perplexity of a word": found.word_perplexity} | {n: found.metrics[key] for n, key in metrics.items()}
