# SPDX-License-Identifier: Apache-2.0
"""What the decoder gets to see: when the scene embedding has moved so far that it needs a new caption, and of how many
image tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TOP_TOKENS = 2


def scene_distance(before: np.ndarray, now: np.ndarray) -> float:
    """Relative distance of two sets of image features ``(image_tokens, dim)``; 0 is equal, about 1 is another scene.

    The mean over the two image tokens that moved most, each relative to the typical norm: one small object that
    appears moves one or two tokens of 49, and a mean over all of them would not see it.
    """
    middle = len(before) // 2
    scale = float(np.partition(_norms(before), middle)[middle])
    moved = _norms(now - before)
    top = min(_TOP_TOKENS, len(moved))
    return float(np.partition(moved, len(moved) - top)[-top:].mean()) / max(scale, 1e-12)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Length of each row; many times quicker than numpy.linalg.norm on so few."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


@dataclass(frozen=True)
class CaptionPolicy:
    """``scene_distance``: ask for a new caption from there on, and from half of it once the scene has settled: a
    caption decoded in the middle of a movement is put right at its end. ``max_age_s``: in any case after that time
    (0: never).

    ``min_interval_s``: no sooner than that after the last one; the new caption stays due.
    """

    scene_distance: float
    max_age_s: float
    min_interval_s: float

    def reason_to_refresh(self, distance: float, caption_age_s: float, settled: bool = False) -> tuple[bool, str]:
        """Whether to decode now, and why or why not. ``distance``: of the scene from the one described; ``settled``:
        nothing has changed for some frames."""
        if distance >= (0.5 * self.scene_distance if settled else self.scene_distance):
            if caption_age_s < self.min_interval_s:
                return False, f"scene moved ({distance:.2f}), waiting for the minimum interval"
            return True, f"scene {'settled' if settled else 'moved'} ({distance:.2f})"
        if self.max_age_s > 0 and caption_age_s >= self.max_age_s:
            return True, f"caption is {caption_age_s:.1f} s old"
        return False, f"scene unchanged ({distance:.2f})"


@dataclass(frozen=True)
class NeighbourMerging:
    """Pairs of unchanged image tokens that lie side by side and are alike go to the decoder as their mean.

    Fewer image tokens enter prefill, as after paper S; like ToMe it merges and does not drop. The decoder was trained
    on whole grids, and a merged token shifts the places of all after it: off unless asked for. ``min_cosine``: of two
    tokens that are merged; above 1 nothing is.
    """

    min_cosine: float

    def merge(self, features: np.ndarray, unchanged: np.ndarray) -> np.ndarray:
        """Image features ``(image_tokens, dim)`` on a square grid -> ``(merged_tokens, dim)``, in reading order.

        ``unchanged`` bool ``(image_tokens,)``.
        """
        if self.min_cosine > 1 or not unchanged.any():
            return features
        columns = round(len(features) ** 0.5)
        norms = np.maximum(np.linalg.norm(features, axis=1), 1e-12)
        cosine = (features[:-1] * features[1:]).sum(axis=1) / (norms[:-1] * norms[1:])
        alike = unchanged[:-1] & unchanged[1:] & (cosine >= self.min_cosine)
        alike[columns - 1 :: columns] = False  # the next one begins a row
        merged, index = [], 0
        while index < len(features):
            pair = index < len(alike) and alike[index]
            merged.append(0.5 * (features[index] + features[index + 1]) if pair else features[index])
            index += 2 if pair else 1
        return np.stack(merged)
