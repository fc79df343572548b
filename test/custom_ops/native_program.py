# SPDX-License-Identifier: Apache-2.0
"""Compiles a checking program with the sources of one folder of the operator library, and runs it."""

import subprocess
from pathlib import Path

from custom_ops import build

ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def what_it_prints(folder: Path, check: Path, subject: str, compiler: list, flags: list, run: tuple = ()) -> str | None:
    """What ``check`` prints, built in ``folder`` with src/``subject``; None where it does not link."""
    program, place = folder / check.stem, build.SOURCES / subject
    sources = [str(path) for path in sorted(place.glob("*.cc"))]
    command = [*compiler, "-std=c++17", *flags, f"-I{place}", str(check), *sources, "-o", program]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    result = subprocess.run([*run, program], capture_output=True, text=True)
    return result.stdout + result.stderr
