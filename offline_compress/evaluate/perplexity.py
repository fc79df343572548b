# SPDX-License-Identifier: Apache-2.0
"""Perplexity of captions: exp of the mean negative log-likelihood of the answer's tokens, end marker included.

One definition for every form of the model: over all scenes, the first reference of each, teacher-forced after the
prompt. Tokens count equally, whatever the length of their caption.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from edge_vlm.errors import InputError


def from_log_probabilities(rows: Iterable[Sequence[float]]) -> float:
    """Of log-probabilities of answer tokens and end marker, one row per caption.

    Raises InputError where there are none, or one is not finite.
    """
    total, count = 0.0, 0
    for row in rows:
        total, count = total - float(np.sum(row, dtype=np.float64)), count + len(row)
    if not count or not math.isfinite(total):
        raise InputError(f"perplexity of {count} tokens with total {total}", "give captions that the model can score")
    return math.exp(total / count)
