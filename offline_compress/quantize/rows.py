# SPDX-License-Identifier: Apache-2.0
"""What every quantizer returns, and what it may be given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline_compress.quantize.errors import QuantizeError


@dataclass(frozen=True)
class QuantisedRows:
    """``weight ~ codes * scale[:, None]``.

    ``codes`` int8 (N, K), ``scale`` float32 (N,), ``relative_error`` = |W - codes * scale|^2 / |W|^2 (0 for W = 0).
    A row of zeros has scale 0.
    """

    codes: np.ndarray
    scale: np.ndarray
    relative_error: float

    @staticmethod
    def of(weight: np.ndarray, codes: np.ndarray, scale: np.ndarray) -> QuantisedRows:
        """Measures the error of these codes and scales against ``weight`` (N, K)."""
        scale = scale.astype(np.float32)
        difference = weight - codes * scale[:, None].astype(np.float64)
        power = float(np.sum(np.square(weight)))
        error = float(np.sum(np.square(difference))) / power if power else 0.0
        return QuantisedRows(codes.astype(np.int8), scale, error)


def checked(weight: np.ndarray, name: str = "matrix") -> np.ndarray:
    """The matrix as float64 (N, K).

    Raises QuantizeError, naming it, where it is no matrix, or holds NaN or infinity, or nothing but zeros.
    """
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 2 or not weight.size:
        raise QuantizeError(f"{name}: shape {weight.shape} is no matrix (out_features, in_features)")
    bad = int(weight.size - np.count_nonzero(np.isfinite(weight)))
    if bad:
        raise QuantizeError(f"{name}: {bad} of {weight.size} weights are NaN or infinite", "train the model again")
    if not weight.any():
        raise QuantizeError(f"{name}: all weights are zero", "the checkpoint is incomplete; copy or train it again")
    return weight
