# SPDX-License-Identifier: Apache-2.0
"""Folders that the node and the operators write to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edge_vlm.doctor.check import OK, WARN, Check


def checks() -> list[Check]:
    home = Path(os.path.expanduser("~"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    logs = Path(os.environ.get("ROS_LOG_DIR") or Path(os.environ.get("ROS_HOME") or home / ".ros") / "log")
    closed = [f"{path} ({purpose})" for path, purpose in ((cache, "operators"), (logs, "logs")) if not _writable(path)]
    if closed:
        remedy = "set XDG_CACHE_HOME and ROS_LOG_DIR to folders that this user may write"
        return [Check("permissions", WARN, f"cannot write {', '.join(closed)}", remedy)]
    return [Check("permissions", OK, f"{cache} and {logs} can be written")]


def _writable(path: Path) -> bool:
    """Whether a file can be made there, or in the nearest folder above that exists."""
    try:
        existing = next((folder for folder in (path, *path.parents) if folder.is_dir()), path)
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
