# SPDX-License-Identifier: Apache-2.0
"""The settings of the caption pipeline, and the counters it keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_vlm.anc.router import BRANCHES
from edge_vlm.sttf.config import SttfConfig

ROUTES = ("auto", *BRANCHES)
VARIANTS = ("both", "sttf", "anc", "none")


@dataclass(frozen=True)
class PipelineConfig:
    """What a driver may choose; the rest comes with the bundle.

    variant: which halves of paper S work. ``sttf``: changed tokens alone, always at full depth, without a router;
    ``anc``: the router chooses a branch for whole frames, without reuse of single tokens; ``both``; ``none`` computes
    and captions every frame whole, as ``reuse`` False does, to compare. route: ``auto`` lets the router choose the
    branch, else this branch wherever there is a choice. question: put to the model (None: the bundle's own).
    max_new_tokens: longest caption in tokens (None: the bundle's). caption_max_age_s: an older caption is decoded
    again (0: never for its age alone). caption_min_interval_s: no two captions closer than that, in stream time.
    scene_distance: movement of the scene embedding that asks for a new caption (None: the bundle's).
    merge_cosine: image tokens side by side that have not changed since the last caption go to the decoder as one where
    their cosine is at least this (2: never).
    sttf: token gate in place of the bundle's. threads: of the inference engine.
    """

    variant: str = "both"
    reuse: bool = True
    route: str = "auto"
    question: str | None = None
    max_new_tokens: int | None = None
    caption_max_age_s: float = 10.0
    caption_min_interval_s: float = 0.1
    scene_distance: float | None = None
    merge_cosine: float = 2.0
    sttf: SttfConfig | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is one of {', '.join(VARIANTS)}, not {self.variant!r}")
        if self.route not in ROUTES:
            raise ValueError(f"route is one of {', '.join(ROUTES)}, not {self.route!r}")
        if self.caption_max_age_s < 0 or self.caption_min_interval_s < 0:
            raise ValueError("caption_max_age_s and caption_min_interval_s must not be negative")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")

    @property
    def recomputes_everything(self) -> bool:
        """Whether nothing of a frame before is ever used."""
        return not self.reuse or self.variant == "none"


@dataclass
class PipelineCounters:
    """Since the pipeline was made. ``resets`` by reason, ``frames_refused`` of malformed images."""

    frames: int = 0
    frames_refused: int = 0
    captions: int = 0
    keyframes: int = 0
    branch_switches: int = 0
    tokens_computed: int = 0
    encoder_macs: int = 0
    branches: Counter = field(default_factory=Counter)
    resets: Counter = field(default_factory=Counter)
