# SPDX-License-Identifier: Apache-2.0
"""The baseline that every camera driver has: whole frames now and then, and nothing in between."""

from __future__ import annotations

import numpy as np

from bench.side_by_side import Run, agreement, mean_cosine


def shown_frames(frames: int, computed: float) -> np.ndarray:
    """Index of the frame that stands at each frame, ``(frames,)``: the first, then a ``computed`` part of all, evenly
    spaced."""
    shown, last, share = np.zeros(frames, int), 0, 1.0
    for index in range(frames):
        if share >= 1.0:
            last, share = index, share - 1.0
        shown[index] = last
        share += computed
    return shown


def skipping_cosine(dense: Run, computed: float) -> np.ndarray:
    """Cosine per frame to the dense features where only a ``computed`` part of the frames is encoded."""
    shown = shown_frames(len(dense.features), computed)
    return np.array([mean_cosine(dense.features[old], dense.features[now]) for now, old in enumerate(shown)])


def skipping_captions(dense: Run, computed: float) -> list[str]:
    """The captions that stand where only a ``computed`` part of the frames is encoded and captioned."""
    captions = dense.captions
    return [captions[index] for index in shown_frames(len(captions), computed)]


def skipping_agreement(dense: Run, computed: float) -> float:
    return agreement(skipping_captions(dense, computed), dense.captions)
