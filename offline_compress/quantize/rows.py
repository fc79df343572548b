# SPDX-License-Identifier: Apache-2.0
"""What every quantizer returns, and what it may be given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.packing import Groups
from offline_compress.errors import QuantizeError
from offline_compress.export.weights import LinearWeights

COPY_OR_TRAIN = "copy or download the model folder again, or train it again"


@dataclass(frozen=True)
class QuantisedRows:
    """``weight ~ codes * scale[:, None]``, or as `LinearWeights` says where there are groups.

    ``codes`` int8 (N, K), ``scale`` float32 (N,), ``relative_error`` = |W - W'|^2 / |W|^2 (0 for W = 0). A row of zeros
    has scale 0.
    """

    codes: np.ndarray
    scale: np.ndarray
    relative_error: float
    groups: Groups | None = None

    @staticmethod
    def of(weight: np.ndarray, codes: np.ndarray, scale: np.ndarray) -> QuantisedRows:
        """Measures the error of these codes and scales against ``weight`` (N, K)."""
        scale = scale.astype(np.float32)
        return QuantisedRows(
            codes.astype(np.int8), scale, relative_error(weight, codes * scale[:, None].astype(np.float64))
        )

    @staticmethod
    def of_weights(weight: np.ndarray, quantised: LinearWeights) -> QuantisedRows:
        """The same of weights as they are exported."""
        error = relative_error(weight, quantised.dequantised())
        return QuantisedRows(quantised.codes, quantised.scale, error, quantised.groups)


def relative_error(weight: np.ndarray, value: np.ndarray) -> float:
    power = float(np.sum(np.square(weight)))
    return float(np.sum(np.square(weight - value))) / power if power else 0.0


def checked(weight: np.ndarray, name: str = "matrix") -> np.ndarray:
    """The matrix as float64 (N, K).

    Raises QuantizeError, naming it, where it is no matrix, or holds NaN or infinity, or nothing but zeros.
    """
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 2 or not weight.size:
        raise QuantizeError(f"{name}: shape {weight.shape} is no matrix (out_features, in_features)")
    bad = int(weight.size - np.count_nonzero(np.isfinite(weight)))
    if bad:
        raise QuantizeError(
            f"{name}: {bad} of {weight.size} weights are NaN or infinite",
            "copy or download the model folder again, or train it again",
        )
    if not weight.any():
        raise QuantizeError(f"{name}: all weights are zero", "the checkpoint is incomplete; copy or train it again")
    return weight
