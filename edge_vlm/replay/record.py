# SPDX-License-Identifier: Apache-2.0
"""One frame's result as one line of captions.jsonl.

Everything but ``measured`` is the same in every replay of the same recording with the same bundle on any machine;
``measured`` holds times and energy. ``active`` is the patch mask, row by row, as hexadecimal, first patch in the
highest bit.
"""

from __future__ import annotations

import json
import math

import numpy as np

from edge_vlm.observation import Observation
from edge_vlm.step_report import StepReport

MEASURED = "measured"


def frame_record(observation: Observation, report: StepReport) -> dict:
    """The JSON object of one line."""
    caption = report.caption
    events = observation.events
    return {
        "frame": report.index,
        "stamp_ns": report.stamp_ns,
        "frame_id": report.frame_id,
        "caption": caption.text if caption else None,
        "caption_stamp_ns": caption.stamp_ns if caption else None,
        "caption_refreshed": report.caption_refreshed,
        "caption_reason": report.caption_reason,
        "score": finite(caption.score, 6) if caption else None,
        "staleness_ms": finite(report.staleness_ms, 3),
        "branch": report.branch,
        "branch_reason": report.branch_reason,
        "tokens_computed": report.tokens_computed,
        "tokens_total": report.tokens_total,
        "tokens_merged": report.tokens_merged,
        "encoder_macs": report.encoder_macs,
        "costs": {stage: {"flops": cost.flops, "bytes": cost.bytes} for stage, cost in sorted(report.costs.items())},
        "active": mask_to_hex(report.active),
        "grid": list(report.active.shape),
        "reset_reason": report.reset_reason,
        "degradation": list(report.degradation),
        "events": {"total": events.total, "outside": events.outside, "lost": events.lost, "overload": events.overload}
        if events
        else None,
        MEASURED: {
            "total_ms": round(report.total_ms, 3),
            "stage_ms": {name: round(duration, 3) for name, duration in report.stage_ms.items()},
            "joules": finite(report.energy.joules, 9),
            "energy_source": report.energy.source,
        },
    }


def finite(value: float | None, digits: int) -> float | None:
    """Rounded; None where there is no number, since JSON has no NaN."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def to_line(record: dict) -> bytes:
    """One line of JSON, newline included."""
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def mask_to_hex(mask: np.ndarray) -> str:
    """bool (rows, columns) as hexadecimal digits."""
    return np.packbits(np.asarray(mask, bool).reshape(-1)).tobytes().hex()


def mask_from_hex(text: str, grid: tuple[int, int]) -> np.ndarray:
    """The inverse of ``mask_to_hex``: bool (rows, columns)."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=grid[0] * grid[1])
    return bits.astype(bool).reshape(grid)
