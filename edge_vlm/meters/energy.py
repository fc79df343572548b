# SPDX-License-Identifier: Apache-2.0
"""Joules over a window of time: one protocol, several sensors, and never a silent estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_vlm.meters.battery import BatteryMeter
from edge_vlm.meters.ina import InaMeter
from edge_vlm.meters.pi5 import Pi5Meter
from edge_vlm.meters.rapl import RaplMeter
from edge_vlm.meters.sensor import SensorUnavailable
from edge_vlm.step_report import Energy


class EnergyMeter(Protocol):
    """Windows do not overlap: each ``begin`` is followed by its ``end``.

    ``source`` names sensor and rails. ``end`` returns ``joules=None`` and the reason in ``note`` where the window
    holds no good sample.
    """

    source: str

    def begin(self) -> None: ...

    def end(self) -> Energy: ...

    def close(self) -> None: ...


@dataclass
class Unavailable:
    """No sensor: every window is ``None`` joules, with the reasons of all the sensors that were tried."""

    note: str
    source: str = "unavailable"

    def begin(self) -> None:
        pass

    def end(self) -> Energy:
        return Energy(None, self.source, self.note)

    def close(self) -> None:
        pass


def open_energy_meter(root: str | Path = "/", battery: bool = False) -> EnergyMeter:
    """The first sensor that gives a reading now: RAPL, a Jetson's INA monitor, a Raspberry Pi 5's PMIC.

    ``root`` is the folder that holds ``sys`` (tests make their own). ``battery``: also try the battery gauge, last; it
    is slow, so that only windows of many seconds mean anything.
    """
    root = Path(root)
    sensors = [RaplMeter.open, InaMeter.open, Pi5Meter.open] + ([BatteryMeter.open] if battery else [])
    reasons = []
    for open_sensor in sensors:
        meter = _try(open_sensor, root)
        if not isinstance(meter, SensorUnavailable):
            return meter
        reasons.append(str(meter))
    return Unavailable("; ".join(reasons))


def _try(open_sensor: Callable[[Path], EnergyMeter], root: Path) -> EnergyMeter | SensorUnavailable:
    try:
        return open_sensor(root)
    except SensorUnavailable as reason:
        return reason
