# SPDX-License-Identifier: Apache-2.0
"""Rendered clips of held-out scenes, whose true captions are known: variants, router, and accuracy against tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from bench.frame_skipping import skipping_captions
from bench.heldout_clips import STILL, RenderedSequence, low_motion_clip, mixed_clip, render
from bench.rows import Row
from bench.side_by_side import Run, agreement, joined, run_side_by_side
from edge_vlm.anc import BRANCHES
from edge_vlm.pipeline import PipelineConfig
from edge_vlm.pipeline_config import VARIANTS
from edge_vlm.runtime import Bundle
from offline_compress.evaluate.heldout import caption_scores

DENSE = "none"
FRAMES_PER_S = 10.0


@dataclass(frozen=True)
class RenderedRuns:
    """Every variant over the same clips: ``runs[variant][clip]``."""

    sequences: tuple[RenderedSequence, ...]
    runs: Mapping[str, tuple[Run, ...]]

    @property
    def references(self) -> list[tuple[str, ...]]:
        return [texts for sequence in self.sequences for texts in sequence.references]

    @property
    def still(self) -> np.ndarray:
        """Frames in which nothing but noise changes, bool ``(frames,)`` of all clips."""
        return np.array([name == STILL for sequence in self.sequences for name in sequence.segments])

    def of(self, variant: str) -> Run:
        """All clips in one."""
        return joined(self.runs[variant])


def measure(bundle: Bundle, sequences: Sequence[RenderedSequence], configs: Mapping[str, PipelineConfig]):
    """All pipelines side by side over each clip; image features are not kept."""
    done = [run_side_by_side(bundle, sequence.observations, configs, keep_features=False) for sequence in sequences]
    return RenderedRuns(tuple(sequences), {name: tuple(runs[name] for runs in done) for name in configs})


def all_variants() -> dict[str, PipelineConfig]:
    return {name: PipelineConfig(variant=name) for name in VARIANTS}


def mixed_sequences(count: int) -> list[RenderedSequence]:
    return [render(mixed_clip(index)) for index in range(count)]


def low_motion_sequences(count: int) -> list[RenderedSequence]:
    return [render(low_motion_clip(index)) for index in range(count)]


@dataclass(frozen=True)
class VariantFigures:
    """Caption metrics over all frames, and means per frame. ``same``: captions as with full recomputation."""

    cider: float
    bleu_4: float
    rouge_l: float
    same: float
    tokens: float
    gmacs: float
    ms: float


def variant_figures(measured: RenderedRuns) -> dict[str, VariantFigures]:
    dense = measured.of(DENSE)
    figures = {}
    for name in measured.runs:
        run = measured.of(name)
        metrics = caption_scores(run.captions, measured.references)
        figures[name] = VariantFigures(
            metrics["cider"],
            metrics["bleu_4"],
            metrics["rouge_l"],
            agreement(run.captions, dense.captions),
            float(np.mean([report.tokens_computed for report in run.reports])),
            float(run.macs.mean()) / 1e9,
            float(run.ms.mean()),
        )
    return figures


def variant_table(figures: Mapping[str, VariantFigures]) -> Table:
    """The paper's TinyGPT-STTF and TinyGPT-ANC beside both and neither."""
    table = Table("variant", title="variants on held-out clips", title_justify="left")
    for name in ("CIDEr", "BLEU-4", "ROUGE-L", "as recomputed", "tokens", "GFLOPs", "ms"):
        table.add_column(name, justify="right")
    for name, f in figures.items():
        cells = (f.cider, f.bleu_4, f.rouge_l, f.same, f.tokens, 2 * f.gmacs, f.ms)
        digits = (3, 4, 4, 3, 1, 3, 2)
        table.add_row(name, *(f"{value:.{places}f}" for value, places in zip(cells, digits, strict=True)))
    return table


def variant_rows(figures: Mapping[str, VariantFigures]) -> list[Row]:
    rows = []
    for name, f in figures.items():
        rows += [
            Row(f"variant {name}: CIDEr, held-out clips", f.cider, "", None, "higher"),
            Row(f"variant {name}: BLEU-4", f.bleu_4, "", None, "higher"),
            Row(f"variant {name}: ROUGE-L", f.rouge_l, "", None, "higher"),
            Row(f"variant {name}: captions as with full recomputation", f.same, "", None, "higher"),
            Row(f"variant {name}: tokens per frame", f.tokens),
            Row(f"variant {name}: encoder FLOPs per frame", 2 * f.gmacs, "GFLOPs"),
            Row(f"variant {name}: time per frame", f.ms, "ms"),
        ]
    return rows


def router_rows(mixed: RenderedRuns, low_motion: RenderedRuns, figures: Mapping[str, VariantFigures]) -> list[Row]:
    """The goals of the adaptive router."""
    both, dense = mixed.of("both"), mixed.of(DENSE)
    quiet, quiet_dense = low_motion.of("both"), low_motion.of(DENSE)
    lost = 1 - figures["both"].cider / figures[DENSE].cider
    rows = [
        Row("encoder FLOPs saved, low-motion clips", 1 - quiet.macs.sum() / quiet_dense.macs.sum(), "", 0.9, "higher"),
        Row("encoder FLOPs saved, mixed clips", 1 - both.macs.sum() / dense.macs.sum(), "", None, "higher"),
        Row("CIDEr lost to full recomputation, mixed clips", lost, "", 0.01),
    ]
    branches = np.array(both.branches)
    rows += [
        Row(f"mixed clips: frames in branch {branch}", float((branches == branch).mean()), "", 0.05, "higher")
        for branch in BRANCHES
    ]
    return [
        *rows,
        Row("branch switches on steady scenes (rests of 4 and 6 s)", switches_per_s(low_motion, "both"), "1/s", 1.0),
        Row("branch switches in rests of 0.8 to 1.6 s after a change", switches_per_s(mixed, "both"), "1/s"),
        Row("router and gate, of a dense encode", overhead(both, dense, "route"), "", 0.02),
        Row("the same with the change signal, of a dense encode", overhead(both, dense, "change", "route")),
        Row("still frames, times faster than full recomputation", still_ratio(low_motion), "", 13.0, "higher"),
        Row("low-motion clips, times faster", float(quiet_dense.ms.mean() / quiet.ms.mean()), "", 8.0, "higher"),
    ]


def switches_per_s(measured: RenderedRuns, variant: str) -> float:
    """Changes of branch from one still frame to the next, per second of rest."""
    switches = seconds = 0
    for sequence, run in zip(measured.sequences, measured.runs[variant], strict=True):
        still = [name == STILL for name in sequence.segments]
        pairs = [i for i in range(1, len(still)) if still[i] and still[i - 1]]
        switches += sum(run.branches[i] != run.branches[i - 1] for i in pairs)
        seconds += len(pairs) / FRAMES_PER_S
    return switches / seconds


def overhead(run: Run, dense: Run, *stages: str) -> float:
    """Time in these stages as a part of a dense encode: ``route`` is gate and router, ``change`` what they look at."""
    return float(run.stage_ms(*stages).mean() / dense.stage_ms("encode").mean())


def still_ratio(measured: RenderedRuns) -> float:
    still = measured.still
    return float(measured.of(DENSE).ms[still].mean() / measured.of("both").ms[still].mean())


def skipping_rows(measured: RenderedRuns) -> list[Row]:
    """Agreement with full recomputation against frame skipping at equal mean cost, in time and in tokens."""
    both, dense = measured.of("both"), measured.of(DENSE)
    same = agreement(both.captions, dense.captions)
    rows = []
    for cost, share in (("time", both.ms.mean() / dense.ms.mean()), ("tokens", both.tokens.mean())):
        skipped = [text for run in measured.runs[DENSE] for text in skipping_captions(run, float(share))]
        skipping = agreement(skipped, dense.captions)
        rows += [
            Row(f"mixed clips: frame skipping, same {cost}: captions as recomputed", skipping, "", None, "higher"),
            Row(f"mixed clips: gained over frame skipping, same {cost}", same - skipping, "", 0.0, "higher"),
        ]
    return rows
