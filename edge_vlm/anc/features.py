# SPDX-License-Identifier: Apache-2.0
"""What the router knows about a scene: a dozen numbers, all cheap, all from values that the gate has at hand.

Nothing in them tells frames from events: a router that learned from rendered frames must hold where events wake the
gate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from edge_vlm.sttf.fusion import scene_distance
from edge_vlm.sttf.gate import GateDecision
from edge_vlm.sttf.scene_watch import Glance
from edge_vlm.sttf.token_state import TokenState

_SCORE_CAP = 50.0  # an infinite score (overload, first frame) is as good as this
_EDGE_LEVELS = 12.0
_ENTROPY_BINS = 32


@dataclass(frozen=True)
class SceneFeatures:
    """One frame as the router sees it; large ranges are compressed by log(1 + x).

    active_fraction: tokens that the gate wants, of all.
    fresh_fraction: patches that changed and had not in the frame before: something appeared or left, where movement
        changes the same patches again.
    mean_change, max_change: log scores of the wanted tokens, in noise units.
    mean_shift, max_shift: log grey levels by which the mean colour of the changed patches has shifted since they were
        computed. Something else in a patch's place shifts it, texture that moves within a patch does not; of all
        features these two say most about what reuse would cost.
    edge_density: part of the small luma image that is edge. entropy_bits: of its grey levels.
    ego_shift_px: log global shift.
    caption_confidence: score of the last caption, 1 before the first.
    frames_since_full: log.
    shallow_fraction: tokens whose last refresh was shallow.
    context_debt: mean part of the patches that have changed since a token was computed.
    drift: scene distance of the image features since they were computed whole. The further the scene has moved, the
        more of it the tokens that were not computed again have not seen.
    """

    active_fraction: float
    fresh_fraction: float
    mean_change: float
    max_change: float
    mean_shift: float
    max_shift: float
    edge_density: float
    entropy_bits: float
    ego_shift_px: float
    caption_confidence: float
    frames_since_full: float
    shallow_fraction: float
    context_debt: float
    drift: float

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def vector(self) -> np.ndarray:
        """float32 ``(features,)`` in the order of ``names``."""
        return np.array([getattr(self, name) for name in self.names()], np.float32)


def edge_density(luma: np.ndarray) -> float:
    """Part of the pixels whose gradient exceeds 12 grey levels; ``luma`` float32 ``(rows, cols)``."""
    dx = np.abs(luma[:-1, 1:] - luma[:-1, :-1])
    dy = np.abs(luma[1:, :-1] - luma[:-1, :-1])
    return float(np.mean(np.maximum(dx, dy) > _EDGE_LEVELS))


def entropy_bits(luma: np.ndarray) -> float:
    """Entropy of the histogram of grey levels in 32 bins, 0..5 bits."""
    levels = np.clip(luma.reshape(-1), 0.0, 255.0).astype(np.int64) * _ENTROPY_BINS // 256
    counts = np.bincount(levels, minlength=_ENTROPY_BINS)
    share = counts[counts > 0] / levels.size
    return float(-(share * np.log2(share)).sum())


def colour_shift_levels(descriptors: np.ndarray, reference: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Grey levels by which the mean colour of each changed patch differs: ``(tokens, cells, 3) -> (changed,)``.

    A single zero where nothing changed.
    """
    if not changed.any():
        return np.zeros(1, np.float32)
    difference = descriptors[changed].mean(axis=1) - reference[changed].mean(axis=1)
    return np.abs(difference).mean(axis=1)


def scene_features(
    glance: Glance, decision: GateDecision, state: TokenState, caption_confidence: float
) -> SceneFeatures:
    """From what the frame showed, what the gate wants of it, and what is remembered (as before this frame)."""
    chosen = np.minimum(glance.scores[decision.active], _SCORE_CAP)
    log_scores = np.log1p(chosen) if chosen.size else np.zeros(1, np.float32)
    shift = colour_shift_levels(glance.descriptors, state.reference, decision.changed)
    return SceneFeatures(
        active_fraction=float(decision.active.mean()),
        fresh_fraction=float((decision.changed & ~state.was_active).mean()),
        mean_change=float(log_scores.mean()),
        max_change=float(log_scores.max()),
        mean_shift=float(np.log1p(shift.mean())),
        max_shift=float(np.log1p(shift.max())),
        edge_density=edge_density(glance.luma),
        entropy_bits=entropy_bits(glance.luma),
        ego_shift_px=float(np.log1p(glance.shift.magnitude_px)),
        caption_confidence=caption_confidence,
        frames_since_full=float(np.log1p(state.frames_since_full)),
        shallow_fraction=float(state.shallow.mean()),
        context_debt=float(state.context_debt.mean()),
        drift=0.0 if state.full_features is None else scene_distance(state.full_features, state.features),
    )
