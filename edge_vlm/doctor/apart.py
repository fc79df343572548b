# SPDX-License-Identifier: Apache-2.0
"""Checks of native code in a process of their own: one that crashes (a wrong instruction, a bad address) is a finding.

``python -m edge_vlm.doctor.apart operators`` or ``... bundle DIR`` prints its findings as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from edge_vlm.doctor.check import FAIL, Check, guarded

TIMEOUT_S = 300  # the first call may build the operators
_REMEDY = "try EDGE_VLM_ISA=scalar, or EDGE_VLM_RUNTIME=numpy (slow), and report this with the whole output"


def apart(subject: str, *arguments: str) -> list[Check]:
    """The findings of one subject of ``edge_vlm.doctor.model``, or that its process died."""
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "edge_vlm.doctor.apart", subject, *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return [Check(subject, FAIL, f"no answer within {TIMEOUT_S} s", _REMEDY)]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return [Check(subject, FAIL, f"the process that tried it died of {name}", _REMEDY)]
    try:
        return [Check(**found) for found in json.loads(done.stdout.splitlines()[-1])]
    except (ValueError, TypeError, IndexError):
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        return [Check(subject, FAIL, f"the process that tried it failed: {said[0]}", _REMEDY)]


def main() -> int:
    from edge_vlm.doctor import model

    subject, *arguments = sys.argv[1:]
    found = guarded(subject, lambda: getattr(model, f"{subject}_checks")(*arguments))
    print(json.dumps([asdict(check) for check in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
