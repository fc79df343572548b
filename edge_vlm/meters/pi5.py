# SPDX-License-Identifier: Apache-2.0
"""Raspberry Pi 5: the power management chip's converters, through ``vcgencmd pmic_read_adc``.

Each line reads ``<rail>_A current(<n>)=<value>A`` or ``<rail>_V volt(<n>)=<value>V``. The sum over the rails leaves out
what the converters lose and what is drawn from the 5 V input directly (USB, HATs): it is an estimate, and every
window says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from edge_vlm.meters.sensor import PowerIntegrator, SensorUnavailable, read_text

_RATE_HZ = 10.0
_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$")
_NOTE = "estimate: sum of the PMIC's rails, without converter losses and 5 V loads"


class Pi5Meter(PowerIntegrator):
    """Sum of the PMIC's rails, sampled at 10 Hz at most."""

    @classmethod
    def open(cls, root: Path) -> Pi5Meter:
        """Raises SensorUnavailable off a Raspberry Pi 5, or where ``vcgencmd`` is missing or refuses."""
        model = read_text(root / "proc/device-tree/model").rstrip("\0")
        if "Raspberry Pi 5" not in model and "Compute Module 5" not in model:
            raise SensorUnavailable("Pi 5: this is no Raspberry Pi 5")
        command = _find_vcgencmd(root)
        if command is None:
            raise SensorUnavailable("Pi 5: vcgencmd not found; remedy: sudo apt install raspi-utils")

        def read_watts() -> float:
            return sum_rails_w(_run(command))

        try:
            read_watts()
        except (OSError, ValueError) as error:
            remedy = "remedy: add the user to the group video"
            raise SensorUnavailable(f"Pi 5: vcgencmd pmic_read_adc gives no reading ({error}); {remedy}") from error
        return cls(read_watts, "Pi 5 PMIC (estimate)", _RATE_HZ, _NOTE)


def sum_rails_w(text: str) -> float:
    """Watts from the output of ``pmic_read_adc``: the sum of V x A over the rails that have both. Raises ValueError."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            rail, unit, value = match.groups()
            (amperes if unit == "A" else volts)[rail] = float(value)
    rails = volts.keys() & amperes.keys()
    if not rails:
        raise ValueError(f"no rail with volts and amperes in {text[:80]!r}")
    return sum(volts[rail] * amperes[rail] for rail in sorted(rails))


def _find_vcgencmd(root: Path) -> str | None:
    local = root / "usr/bin/vcgencmd"
    return str(local) if local.exists() else shutil.which("vcgencmd")


def _run(command: str) -> str:
    try:
        done = subprocess.run([command, "pmic_read_adc"], capture_output=True, text=True, timeout=1.0, check=True)
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error
    return done.stdout
