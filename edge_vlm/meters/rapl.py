# SPDX-License-Identifier: Apache-2.0
"""Intel and AMD processors: the energy counters of the powercap tree (kernel documentation, power/powercap).

Only the top-level packages are summed: their sub-zones (core, uncore, dram in ``intel-rapl:0:1``) are parts of them,
and ``psys`` would count the packages twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from edge_vlm.meters.sensor import SensorUnavailable, read_integer, read_text
from edge_vlm.step_report import Energy

_POWERCAP = Path("sys/class/powercap")
_TOP_ZONE = re.compile(r"^intel-rapl:\d+$")


@dataclass(frozen=True)
class _Zone:
    name: str
    counter: Path
    range_uj: int  # the counter wraps there


@dataclass
class RaplMeter:
    zones: tuple[_Zone, ...]
    source: str
    _begin_uj: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, root: Path) -> RaplMeter:
        """Raises SensorUnavailable with the reason: no such tree, no package zone, permission denied."""
        tree = root / _POWERCAP
        folders = sorted(path for path in tree.glob("intel-rapl:*") if _TOP_ZONE.match(path.name))
        folders = [path for path in folders if not read_text(path / "name").startswith("psys")]
        if not folders:
            raise SensorUnavailable(f"RAPL: no package zone under {tree}")
        zones = []
        for folder in folders:
            counter = folder / "energy_uj"
            try:
                read_integer(counter)
                zones.append(_Zone(read_text(folder / "name", folder.name), counter, _range_uj(folder)))
            except PermissionError as error:
                remedy = f"remedy: sudo chmod a+r {tree}/intel-rapl:*/energy_uj"
                raise SensorUnavailable(f"RAPL: permission denied: {counter}; {remedy}") from error
            except (OSError, ValueError) as error:
                raise SensorUnavailable(f"RAPL: {counter} cannot be read ({error})") from error
        return cls(tuple(zones), "RAPL " + " + ".join(zone.name for zone in zones))

    def begin(self) -> None:
        self._begin_uj = self._read()

    def end(self) -> Energy:
        begin, end = self._begin_uj, self._read()
        if not begin or not end:
            return Energy(None, self.source, f"{self.source}: a counter could not be read during the window")
        joules = 0.0
        for zone, before, after in zip(self.zones, begin, end, strict=True):
            if after < before and zone.range_uj <= 0:
                return Energy(None, self.source, f"{self.source}: {zone.counter} wrapped, its range is not known")
            wrapped = zone.range_uj if after < before else 0
            joules += (after - before + wrapped) * 1e-6
        return Energy(joules, self.source)

    def close(self) -> None:
        self._begin_uj = []

    def _read(self) -> list[int]:
        try:
            return [read_integer(zone.counter) for zone in self.zones]
        except (OSError, ValueError):
            return []


def _range_uj(folder: Path) -> int:
    try:
        return read_integer(folder / "max_energy_range_uj")
    except (OSError, ValueError):
        return 0
