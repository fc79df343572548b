# SPDX-License-Identifier: Apache-2.0
"""Latency, memory and energy, measured and never guessed."""

from edge_vlm.meters.energy import EnergyMeter, Unavailable, open_energy_meter
from edge_vlm.meters.latency import Durations, LatencySummary, StageClock, summarize
from edge_vlm.meters.memory import peak_rss_mb, rss_mb

__all__ = [
    "Durations",
    "EnergyMeter",
    "LatencySummary",
    "StageClock",
    "Unavailable",
    "open_energy_meter",
    "peak_rss_mb",
    "rss_mb",
    "summarize",
]
