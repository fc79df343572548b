# SPDX-License-Identifier: Apache-2.0
"""A robot's or laptop's battery gauge (power_supply class): the draw of the whole machine, slow and coarse."""

from __future__ import annotations

from pathlib import Path

from edge_vlm.meters.sensor import PowerIntegrator, SensorUnavailable, read_integer, read_text

_SUPPLIES = Path("sys/class/power_supply")
_RATE_HZ = 2.0
_NOTE = "battery gauge: the draw of the whole machine, updated about once a second"


class BatteryMeter(PowerIntegrator):
    """``power_now`` (uW), or ``voltage_now`` x ``current_now`` (uV, uA), while the battery discharges."""

    @classmethod
    def open(cls, root: Path) -> BatteryMeter:
        """Raises SensorUnavailable without a battery, on mains power, or where the gauge cannot be read."""
        tree = root / _SUPPLIES
        batteries = [path for path in sorted(tree.glob("*")) if read_text(path / "type") == "Battery"]
        if not batteries:
            raise SensorUnavailable(f"battery: none under {tree}")
        battery = batteries[0]

        def read_watts() -> float:
            if read_text(battery / "status") != "Discharging":
                raise ValueError(f"{battery.name} is not discharging")
            if (battery / "power_now").exists():
                return abs(read_integer(battery / "power_now")) * 1e-6
            return abs(read_integer(battery / "voltage_now") * read_integer(battery / "current_now")) * 1e-12

        try:
            read_watts()
        except (OSError, ValueError) as error:
            raise SensorUnavailable(f"battery: {error}") from error
        return cls(read_watts, f"battery {battery.name}", _RATE_HZ, _NOTE)
