# SPDX-License-Identifier: Apache-2.0
"""Finished parts of a long job, so that one that was interrupted goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_vlm.errors import OutputError
from edge_vlm.files import make_folder, write_json

IDENTITY = "job.json"


class KeptParts:
    """A folder with a JSON file per part. Parts of another job than ``identity`` tells are thrown away.

    Raises OutputError where the folder cannot be written or holds anything else.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object], resume: bool = True) -> None:
        self.folder, self.begun = folder, False
        known = read_known(folder / IDENTITY)
        if resume and known is not None and known == json.loads(json.dumps(identity)):
            self.begun = True
            return
        if folder.exists() and not is_empty(folder) and not (folder / IDENTITY).is_file():
            raise OutputError(f"{folder} is no interrupted job's", "remove it, or name another output")
        self.remove()
        make_folder(folder)
        write_json(folder / IDENTITY, dict(identity))

    def of(self, name: str, make: Callable[[], Any]) -> Any:
        """The part called ``name``: the one that is kept, else what ``make`` gives, as JSON gives it back."""
        path = self.folder / f"{name}.json"
        value = read_known(path)
        if value is None:
            value = json.loads(json.dumps(make()))
            write_json(path, value)
        return value

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def read_known(path: Path) -> Any:
    """None for what is not there or was damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
