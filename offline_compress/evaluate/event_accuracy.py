# SPDX-License-Identifier: Apache-2.0
"""Accuracy of an exported event model on labelled clips, run step by step as on board."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from edge_vlm.events.classifier import EventClassifier
from edge_vlm.sources.event_clip import EventClip


@dataclass(frozen=True)
class EventAccuracy:
    """``predicted`` and ``labels`` (clips,): the class at the end of each clip, and the right one. ``tokens`` (clips,):
    mean tokens computed in a step, the first one of each clip, which computes all, included. ``ms``: mean time of a
    step."""

    classes: tuple[str, ...]
    predicted: np.ndarray
    labels: np.ndarray
    tokens: np.ndarray
    tokens_total: int
    ms: float

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    @property
    def tokens_share(self) -> float:
        """Mean part of all tokens that a step computes."""
        return float(self.tokens.mean()) / self.tokens_total

    @property
    def confusion(self) -> np.ndarray:
        """int64 (classes, classes): rows are right classes, columns predicted ones."""
        count = len(self.classes)
        return np.bincount(self.labels * count + self.predicted, minlength=count**2).reshape(count, count)

    def to_json(self) -> dict:
        return {
            "clips": len(self.labels),
            "accuracy": self.accuracy,
            "tokens_per_step": float(self.tokens.mean()),
            "tokens_total": self.tokens_total,
            "step_ms": self.ms,
            "confusion": self.confusion.tolist(),
        }


def event_accuracy(
    classifier: EventClassifier, clips: Iterable[EventClip], report: Callable[[int], None] = lambda done: None
) -> EventAccuracy:
    """Every clip from a reset on. ``report`` is told the number of clips done. Raises InputError for an empty clip."""
    predicted, labels, tokens, total_ms, steps = [], [], [], 0.0, 0
    for clip in clips:
        run = list(classifier.run(clip.events))
        predicted.append(int(run[-1].probabilities.argmax()))
        labels.append(clip.label)
        tokens.append(np.mean([step.tokens_computed for step in run]))
        total_ms += sum(step.total_ms for step in run)
        steps += len(run)
        report(len(labels))
    model = classifier.model
    return EventAccuracy(
        model.classes, np.array(predicted), np.array(labels), np.array(tokens), model.vision.tokens, total_ms / steps
    )
