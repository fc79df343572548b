# SPDX-License-Identifier: Apache-2.0
"""What a newcomer waits for: `make demo` in a clone of this repository that holds nothing but what is committed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from bench.rows import Row
from custom_ops.errors import EdgeVlmError

TIMEOUT_S = 1800
MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[1]


class CloneError(EdgeVlmError):
    """The demo cannot be run in a fresh clone; says what failed."""


def fresh_clone_rows() -> list[Row]:
    """Clone, `make demo` from nothing, `make demo` again. Raises CloneError with the last lines of what failed."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "edge_vlm"
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(folder))
        from_nothing_s = run(["make", "demo"], clone)
        installed_s = run(["make", "demo"], clone)
        summary = json.loads((clone / "out" / "demo" / "summary.json").read_text(encoding="utf-8"))
    return [
        Row("make demo from nothing", from_nothing_s, "s", 300.0),
        Row("make demo once installed", installed_s, "s", 60.0),
        Row("peak memory of the replay", summary["measured"]["peak_rss_mb"] * MIB / 1e6, "MB", 300.0),
    ]


def run(command: list[str], folder: Path) -> float:
    """Seconds that the command took."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PIP_NO_CACHE_DIR"] = "1"  # as on a machine that never installed them
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise CloneError(f"{' '.join(command)} failed in a fresh clone: {last}", "run it by hand to see all of it")
    return time.perf_counter() - began
