# SPDX-License-Identifier: Apache-2.0
"""Jetson boards: INA3221 (Orin, Xavier) and INA238 (Thor) monitors, through hwmon.

INA3221: ``in<n>_input`` in mV and ``curr<n>_input`` in mA for the rail that ``in<n>_label`` names. INA238:
``power1_input`` in uW. The board's total is the rail VDD_IN (VIN_SYS_5V0 on older boards); single rails are not
summed, since which of them lie behind one another differs from board to board.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_vlm.meters.sensor import PowerIntegrator, SensorUnavailable, read_integer, read_text

_HWMON = Path("sys/class/hwmon")
_TOTAL_RAILS = ("VDD_IN", "VIN_SYS_5V0", "VIN")
_RATE_HZ = 40.0


class InaMeter(PowerIntegrator):
    """Total board power, sampled at 40 Hz."""

    @classmethod
    def open(cls, root: Path) -> InaMeter:
        """Raises SensorUnavailable naming the rails that were found."""
        tree = root / _HWMON
        found: list[str] = []
        for folder in sorted(tree.glob("hwmon*")):
            chip = read_text(folder / "name")
            if not chip.startswith("ina"):
                continue
            for rail, read_watts in _rails(folder):
                found.append(f"{chip}/{rail}")
                if rail in _TOTAL_RAILS or (chip == "ina238" and rail == "power1"):
                    return cls._of(folder, f"{chip.upper()} {rail}", read_watts)
        if found:
            raise SensorUnavailable(f"INA: none of the rails {', '.join(found)} is known to be the board's total")
        raise SensorUnavailable(f"INA: no ina3221 or ina238 under {tree}")

    @classmethod
    def _of(cls, folder: Path, source: str, read_watts: Callable[[], float]) -> InaMeter:
        try:
            read_watts()
        except PermissionError as error:
            raise SensorUnavailable(
                f"INA: permission denied: {folder}; remedy: sudo chmod a+r {folder}/*_input"
            ) from error
        except (OSError, ValueError) as error:
            raise SensorUnavailable(f"INA: {folder} cannot be read ({error})") from error
        return cls(read_watts, source, _RATE_HZ)


def _rails(folder: Path) -> list[tuple[str, Callable[[], float]]]:
    """Name and reader (watts) of each rail of one monitor."""
    rails: list[tuple[str, Callable[[], float]]] = []
    for label_file in sorted(folder.glob("in*_label")):
        channel = label_file.name[2:-6]
        voltage, current = folder / f"in{channel}_input", folder / f"curr{channel}_input"
        if voltage.exists() and current.exists():
            rails.append((read_text(label_file), _volts_times_amperes(voltage, current)))
    power = folder / "power1_input"
    if power.exists():
        rails.append((read_text(folder / "power1_label", "power1"), lambda: read_integer(power) * 1e-6))
    return rails


def _volts_times_amperes(voltage_mv: Path, current_ma: Path) -> Callable[[], float]:
    return lambda: read_integer(voltage_mv) * read_integer(current_ma) * 1e-6
