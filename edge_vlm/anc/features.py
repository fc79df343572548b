# SPDX-License-Identifier: Apache-2.0
"""What the router knows about a scene: a dozen numbers, all cheap, all from values that the gate has at hand.

Nothing in them tells frames from events: a router that learned from rendered frames must hold where events wake the
gate.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from custom_ops.scene_pass import SceneMeasurer
from edge_vlm.sttf.fusion import scene_distance
from edge_vlm.sttf.gate import GateDecision
from edge_vlm.sttf.scene_watch import Glance
from edge_vlm.sttf.token_state import TokenState

_SCORE_CAP = 50.0  # an infinite score (overload, first frame) is as good as this
_EDGE_LEVELS = 12.0
_ENTROPY_BINS = 32
_THIRDS = np.full(3, 1 / 3, np.float32)


class SceneFeatures(NamedTuple):
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

    def vector(self) -> np.ndarray:
        """float32 ``(features,)``."""
        return np.array(self, np.float32)


def edge_density(luma: np.ndarray) -> float:
    """Part of the pixels whose gradient exceeds 12 grey levels; ``luma`` float32 ``(rows, cols)``."""
    corner = luma[:-1, :-1]
    steepest = cv2.max(cv2.absdiff(luma[:-1, 1:], corner), cv2.absdiff(luma[1:, :-1], corner))
    return np.count_nonzero(steepest > _EDGE_LEVELS) / steepest.size


def entropy_bits(luma: np.ndarray) -> float:
    """Entropy of the histogram of grey levels in 32 bins, 0..5 bits."""
    levels = np.minimum(luma.reshape(-1) * (_ENTROPY_BINS / 256), _ENTROPY_BINS - 1).astype(np.intp)
    counts = np.bincount(levels)
    share = counts[counts > 0] / levels.size
    return float(-(share @ np.log2(share)))


def colour_shift_levels(descriptors: np.ndarray, reference: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Grey levels by which the mean colour of each changed patch differs: ``(tokens, cells, 3) -> (changed,)``.

    A single zero where nothing changed.
    """
    if not changed.any():
        return np.zeros(1, np.float32)
    difference = (descriptors[changed] - reference[changed]).reshape(-1, descriptors.shape[1] * 3)
    return np.abs(difference @ _mean_colour(descriptors.shape[1])) @ _THIRDS


@cache
def _mean_colour(cells: int) -> np.ndarray:
    """A descriptor's ``cells * 3`` values times this are its mean colour; one product, where a mean over the middle
    axis adds up three numbers at a time."""
    return np.tile(np.eye(3, dtype=np.float32) / cells, (cells, 1))


def scene_features(
    glance: Glance,
    decision: GateDecision,
    state: TokenState,
    caption_confidence: float,
    measurer: SceneMeasurer | None = None,
) -> SceneFeatures:
    """From what the frame showed, what the gate wants of it, and what is remembered (as before this frame).

    ``measurer``: the operator library's pass over all of it, where there is one.
    """
    if measurer is None:
        return _in_numpy(glance, decision, state, caption_confidence)
    found = measurer.measure(
        state.grid,
        (glance.descriptors, glance.previous, state.reference),
        np.ascontiguousarray(glance.scores, np.float32),  # those of events are of double precision
        np.ascontiguousarray(state.context_debt, np.float32),
        (decision.active, decision.changed, state.was_active, state.shallow),
        None if state.full_features is None else (state.full_features, state.features),
        glance.pixels_per_cell,
        caption_confidence,
        state.frames_since_full,
    )
    return SceneFeatures(*found.figures)


def _in_numpy(glance: Glance, decision: GateDecision, state: TokenState, caption_confidence: float) -> SceneFeatures:
    chosen = np.minimum(glance.scores[decision.active], _SCORE_CAP)
    log_scores = np.log1p(chosen) if chosen.size else np.zeros(1, np.float32)
    shift = colour_shift_levels(glance.descriptors, state.reference, decision.changed)
    return SceneFeatures(
        active_fraction=np.count_nonzero(decision.active) / state.tokens,
        fresh_fraction=np.count_nonzero(decision.changed & ~state.was_active) / state.tokens,
        mean_change=float(log_scores.mean()),
        max_change=float(log_scores.max()),
        mean_shift=math.log1p(shift.mean()),
        max_shift=math.log1p(shift.max()),
        edge_density=edge_density(glance.luma),
        entropy_bits=entropy_bits(glance.luma),
        ego_shift_px=math.log1p(glance.shift.magnitude_px),
        caption_confidence=caption_confidence,
        frames_since_full=math.log1p(state.frames_since_full),
        shallow_fraction=np.count_nonzero(state.shallow) / state.tokens,
        context_debt=float(state.context_debt.mean()),
        drift=0.0 if state.full_features is None else scene_distance(state.full_features, state.features),
    )
