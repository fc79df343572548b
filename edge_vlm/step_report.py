# SPDX-License-Identifier: Apache-2.0
"""What the pipeline gives back for one observation; the drivers only print, publish or store it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_vlm.accounting import StageCost


@dataclass(frozen=True)
class Caption:
    """``score`` is the geometric mean of the token probabilities, 0..1; ``stamp_ns`` that of the image described."""

    text: str
    score: float
    stamp_ns: int


@dataclass(frozen=True)
class Energy:
    """``joules`` is None where no sensor could measure the window; ``note`` then says why."""

    joules: float | None
    source: str
    note: str = ""


@dataclass(frozen=True)
class StepReport:
    """One frame's result.

    ``branch`` is one of reuse, shallow, sparse, full. ``tokens_computed`` of ``tokens_total`` visual tokens ran
    through the encoder. ``caption`` describes the frame at ``caption.stamp_ns``; ``caption_refreshed`` says that
    it was decoded in this step, ``staleness_ms`` how much older than this frame it is. ``stage_ms`` holds wall-clock
    milliseconds per stage (resize, change, route, encode, prefill, decode) and ``total_ms`` their frame's sum.
    ``costs`` counts what each stage computed and moved (see ``edge_vlm.accounting``), ``encoder_macs`` is of encode.
    ``tokens_merged``: image tokens that the decoder did not get because they were merged with others.
    ``degradation`` says what was wrong with the input, and what was done about it.
    ``active`` bool (grid_rows, grid_cols): the patches that were computed.
    """

    index: int
    stamp_ns: int
    frame_id: str
    branch: str
    branch_reason: str
    tokens_computed: int
    tokens_total: int
    caption: Caption | None
    caption_refreshed: bool
    caption_reason: str
    staleness_ms: float
    stage_ms: dict[str, float]
    total_ms: float
    energy: Energy
    encoder_macs: int
    active: np.ndarray = field(repr=False)
    reset_reason: str = ""
    costs: dict[str, StageCost] = field(default_factory=dict)
    tokens_merged: int = 0
    degradation: tuple[str, ...] = ()

    @property
    def tokens_reused(self) -> int:
        return self.tokens_total - self.tokens_computed
