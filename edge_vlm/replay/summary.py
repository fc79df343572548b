# SPDX-License-Identifier: Apache-2.0
"""A whole run in figures: frames, reuse, branches, latency, energy, memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field

from edge_vlm.meters import Durations, peak_rss_mb
from edge_vlm.replay.record import MEASURED, finite
from edge_vlm.sources.source import SourceCounts
from edge_vlm.step_report import StepReport


@dataclass
class RunSummary:
    """Filled step by step; ``to_json`` gives summary.json, ``rows`` what is printed.

    ``step_drops`` counts frames that the source gave but the pipeline refused, by reason.
    """

    frames: int = 0
    captions: int = 0
    tokens_computed: int = 0
    tokens_total: int = 0
    encoder_macs: int = 0
    branches: Counter = field(default_factory=Counter)
    resets: Counter = field(default_factory=Counter)
    step_drops: Counter = field(default_factory=Counter)
    total_ms: Durations = field(default_factory=Durations)
    stage_ms: dict[str, Durations] = field(default_factory=dict)
    joules: float = 0.0
    frames_with_energy: int = 0
    energy_source: str = "none"
    energy_note: str = "no frame was processed"
    wall_s: float = 0.0

    def add(self, report: StepReport) -> None:
        """One more frame."""
        self.frames += 1
        self.captions += report.caption_refreshed
        self.tokens_computed += report.tokens_computed
        self.tokens_total += report.tokens_total
        self.encoder_macs += report.encoder_macs
        self.branches[report.branch] += 1
        if report.reset_reason:
            self.resets[report.reset_reason] += 1
        self.total_ms.add(report.total_ms)
        for name, duration in report.stage_ms.items():
            self.stage_ms.setdefault(name, Durations()).add(duration)
        self.energy_source, self.energy_note = report.energy.source, report.energy.note
        if report.energy.joules is not None and math.isfinite(report.energy.joules):
            self.joules += report.energy.joules
            self.frames_with_energy += 1

    @property
    def reused_share(self) -> float:
        """Share of visual tokens that did not have to be computed; 0 before the first frame."""
        return 1.0 - self.tokens_computed / self.tokens_total if self.tokens_total else 0.0

    def to_json(self, source: str, counts: SourceCounts, interrupted: str = "") -> dict:
        """summary.json: all but ``measured`` is the same in every replay."""
        return {
            "format": "edge_vlm.summary",
            "version": 1,
            "source": source,
            "interrupted": interrupted,
            "frames": self.frames,
            "captions": self.captions,
            "tokens_computed": self.tokens_computed,
            "tokens_total": self.tokens_total,
            "tokens_reused_share": round(self.reused_share, 6),
            "encoder_macs": self.encoder_macs,
            "branches": dict(sorted(self.branches.items())),
            "resets": dict(sorted(self.resets.items())),
            "pipeline_drops": dict(sorted(self.step_drops.items())),
            "input": counts.to_json(),
            MEASURED: {
                "wall_s": round(self.wall_s, 3),
                "latency_ms": asdict(self.total_ms.summary()),
                "stage_latency_ms": {name: asdict(stage.summary()) for name, stage in self.stage_ms.items()},
                "joules": self.joules if self.frames_with_energy else None,
                "frames_with_energy": self.frames_with_energy,
                "energy_source": self.energy_source,
                "energy_note": self.energy_note,
                "peak_rss_mb": finite(peak_rss_mb(), 1),
            },
        }

    def rows(self, counts: SourceCounts) -> list[tuple[str, str]]:
        """Name and value of each printed figure."""
        latency = self.total_ms.summary()
        drops = counts.dropped + self.step_drops
        rows = [
            ("frames", f"{self.frames} captioned of {counts.images} images"),
            ("dropped", ", ".join(f"{n} ({reason})" for reason, n in drops.most_common()) or "none"),
            ("captions decoded", f"{self.captions}"),
            ("visual tokens reused", f"{100 * self.reused_share:.1f} %"),
            ("branches", _shares(self.branches, self.frames)),
            ("latency", f"p50 {latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms, max {latency.max_ms:.1f} ms"),
            ("stages (mean)", _stage_means(self.stage_ms, self.frames)),
            ("energy", self._energy()),
            ("peak memory", f"{peak_rss_mb():.0f} MiB"),
        ]
        if counts.event_packets:
            rows.insert(2, ("events", _events(counts)))
        if counts.stamps_replaced or counts.stamps_backward:
            odd = f"{counts.stamps_replaced} without a usable stamp, {counts.stamps_backward} jumped back"
            rows.insert(2, ("stamps", odd))
        if self.resets:
            rows.insert(-2, ("resets", ", ".join(f"{n} ({reason})" for reason, n in self.resets.most_common())))
        return rows

    def _energy(self) -> str:
        if not self.frames_with_energy:
            return f"unavailable: {self.energy_note or self.energy_source}"
        per_caption = f", {self.joules / self.captions:.3f} J per decoded caption" if self.captions else ""
        missing = self.frames - self.frames_with_energy
        note = f" ({missing} frames without a reading)" if missing else ""
        return f"{self.joules:.2f} J by {self.energy_source}{per_caption}{note}"


def _shares(counts: Counter, total: int) -> str:
    return ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in counts.most_common()) or "none"


def _stage_means(stage_ms: dict[str, Durations], frames: int) -> str:
    return ", ".join(f"{name} {stage.sum_ms / max(frames, 1):.1f} ms" for name, stage in stage_ms.items()) or "none"


def _events(counts: SourceCounts) -> str:
    parts = [f"{counts.events} in {counts.event_packets} packets"]
    undecodable = sum(counts.event_packets_undecodable.values())
    for number, name in (
        (counts.events_outside, "outside the sensor"),
        (counts.event_packets_lost, "packets lost"),
        (undecodable, "packets undecodable"),
        (counts.event_overloads, "windows too dense to count"),
    ):
        if number:
            parts.append(f"{number} {name}")
    return ", ".join(parts)
