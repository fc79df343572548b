# SPDX-License-Identifier: Apache-2.0
"""From running statistics to one diagnostic status: level, one line, and values with units in their keys."""

from __future__ import annotations

import math

import numpy as np

from edge_vlm.live.statistics import LiveStatistics
from edge_vlm.meters import rss_mb
from edge_vlm.sources.event_intake import EventIntake

REJECTION_WARNS_S = 10.0
_NO_SENSOR = ("none", "unavailable")  # a machine without one is no fault, a sensor that has ceased is
OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"  # diagnostic_msgs/DiagnosticStatus


def health(statistics: LiveStatistics, now_s: float, stale_after_s: float, qos_problem: str = "") -> tuple[bytes, str]:
    """Level and message. ``now_s`` is the steady clock that ``statistics.arrived`` was given."""
    if statistics.failures_in_a_row:
        return ERROR, f"{statistics.failures_in_a_row} frames failed in a row: {statistics.last_error}"
    if statistics.settings_error:
        return WARN, f"the last change of parameters does not work and is not in use: {statistics.settings_error}"
    if qos_problem:
        return WARN, qos_problem
    if statistics.last_arrival_s is None:
        return STALE, "no image has arrived yet; check the topic and its publishers' QoS (ros2 topic info -v)"
    silence_s = now_s - statistics.last_arrival_s
    if silence_s > stale_after_s:
        return (
            STALE,
            f"no image for {silence_s:.1f} s; the last caption no longer describes what is in front of the camera",
        )
    if statistics.frames_rejected and now_s - statistics.last_rejection_s < REJECTION_WARNS_S:
        reason, count = statistics.frames_rejected.most_common(1)[0]
        return WARN, f"{sum(statistics.frames_rejected.values())} images rejected, mostly ({count}): {reason}"
    waited_s = 0.0 if statistics.drawn or statistics.last_result_s is None else now_s - statistics.last_result_s
    if waited_s > stale_after_s + 2e-3 * max(0.0, np.nan_to_num(statistics.latency_ms(50))):
        if statistics.duplicates_in_a_row:
            return STALE, (
                f"{statistics.duplicates_in_a_row} images with the stamp of the one before: the camera repeats itself, "
                "and the last caption no longer describes what is in front of it"
            )
        return WARN, f"images arrive, and none has been described for {waited_s:.1f} s"
    age_s = statistics.frame_age_ms(50) * 1e-3
    if age_s > stale_after_s or age_s < -stale_after_s:
        where = "old" if age_s > 0 else "ahead of the clock"
        return WARN, (
            f"frames are {abs(age_s):.1f} s {where} when they are described; synchronise the clocks of camera and "
            "computer, or set use_sim_time with a recording or simulation"
        )
    energy = statistics.energy
    if energy.joules is None and energy.source not in _NO_SENSOR:
        return WARN, f"no energy of the last frame: {energy.note}"
    return OK, "captioning"


def event_values(intake: EventIntake) -> dict[str, str]:
    """The event camera's figures."""
    return {
        "event_packets": str(intake.packets),
        "events": str(intake.events),
        "event_packets_lost": str(intake.lost),
        "event_packets_undecodable": str(sum(intake.dropped.values())),
        "events_outside": str(intake.outside),
        "event_overloads": str(intake.overloads),
    } | ({"event_error": str(intake.first_error.what)} if intake.first_error else {})


def values(statistics: LiveStatistics, idle_power_w: float = math.nan) -> dict[str, str]:
    """The figures, as diagnostics want them: strings, units in the keys."""
    report = statistics.last_report
    energy = statistics.energy
    shown = {
        "latency_ms_p50": f"{statistics.latency_ms(50):.2f}",
        "latency_ms_p95": f"{statistics.latency_ms(95):.2f}",
        "latency_ms_p99": f"{statistics.latency_ms(99):.2f}",
        "frame_age_ms": f"{statistics.frame_age_ms(50):.1f}",
        "frame_age_ms_p99": f"{statistics.frame_age_ms(99):.1f}",
        "frames_received": str(statistics.frames_received),
        "frames_processed": str(statistics.frames_processed),
        "frames_dropped": str(statistics.frames_dropped),
        "frames_rejected": str(sum(statistics.frames_rejected.values())),
        "frames_duplicate": str(statistics.frames_duplicate),
        "frames_failed": str(statistics.frames_failed),
        "messages_lost": str(statistics.messages_lost),
        "captions": str(statistics.captions),
        "resets": str(statistics.resets),
        "energy_j_per_caption": f"{statistics.joules_per_caption():.4f}",
        "power_w": f"{statistics.average_power_w():.2f}",
        "idle_power_w": f"{idle_power_w:.2f}",
        "energy_source": energy.source if energy.joules is not None else f"unavailable: {energy.note}",
        "rss_mb": f"{rss_mb():.1f}",
    }
    if report is not None:
        shown |= {
            "branch": report.branch,
            "branch_reason": report.branch_reason,
            "tokens_computed": f"{report.tokens_computed} of {report.tokens_total}",
            "caption_staleness_ms": f"{report.staleness_ms:.0f}",
        }
    return shown
