# SPDX-License-Identifier: Apache-2.0
"""Python, processor, memory, and the energy sensor."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from edge_vlm.doctor.check import FAIL, OK, WARN, Check

# What the operators can use, by the names that /proc/cpuinfo gives them.
_X86_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ARM_FEATURES = ("asimd", "asimddp", "i8mm", "sve")
POWERCAP = Path("/sys/class/powercap")


def checks() -> list[Check]:
    return [_python(), _processor(), _memory()]


def energy_checks() -> list[Check]:
    """One reading of the energy sensor, if there is one."""
    from edge_vlm.meters import open_energy_meter

    meter = open_energy_meter()
    try:
        meter.begin()
        energy = meter.end()
    finally:
        meter.close()
    if meter.source == "unavailable":
        counters = sorted(POWERCAP.glob("*/energy_uj"))
        remedy = "figures then say unavailable"
        if counters:
            remedy += f"; the counters of the processor are read by root, or after: sudo chmod a+r {counters[0]}"
        return [Check("energy", WARN, f"no sensor: {energy.note}", remedy)]
    if energy.joules is None:
        return [Check("energy", OK, f"{meter.source} (no sample in so short a window)")]
    return [Check("energy", OK, meter.source)]


def _python() -> Check:
    return Check("python", OK, f"{platform.python_version()} at {sys.executable}")


def _processor() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model, features = _cpuinfo(Path("/proc/cpuinfo"))
    known = [name for name in (*_X86_FEATURES, *_ARM_FEATURES) if name in features]
    detail = f"{model or platform.machine()}, {cores} usable cores, {' '.join(known) or 'no vector features found'}"
    supported = platform.machine() in ("x86_64", "AMD64", "aarch64", "arm64")
    remedy = "" if supported else "only x86-64 and 64-bit ARM are supported"
    return Check("processor", OK if supported else FAIL, detail, remedy)


def _cpuinfo(path: Path) -> tuple[str, set[str]]:
    """Model name and features of the first core."""
    try:
        lines = path.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return "", set()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return fields.get("model name", ""), set((fields.get("flags") or fields.get("Features") or "").split())


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available_mb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024
    except (OSError, StopIteration, ValueError):
        return Check("memory", WARN, "/proc/meminfo does not tell", "300 MiB should be free")
    if available_mb < 300:
        return Check(
            "memory", WARN, f"{available_mb:.0f} MiB available", "a replay takes up to 300 MiB; close something"
        )
    return Check("memory", OK, f"{available_mb:.0f} MiB available")
