# SPDX-License-Identifier: Apache-2.0
"""The course of a training in a file beside its checkpoint, a JSON object a line; a resumed run goes on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_vlm.errors import InputError
from edge_vlm.files import reporting, write_text


@dataclass
class TrainingCurve:
    """``rows``: means over ``every`` steps, and what is appended besides."""

    path: Path
    every: int
    rows: list[dict] = field(default_factory=list)
    window: list[Mapping[str, float]] = field(default_factory=list)

    def cut(self, step: int) -> None:
        """Take over what an earlier run wrote, up to the checkpoint's ``step``; what lies behind it is forgotten.

        Raises InputError for a file that is no curve.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
            rows = [json.loads(line) for line in lines if line.endswith("}")]
            self.rows = [row for row in rows if row["step"] <= step]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path}: not the curve of a training ({error})", "remove it") from error
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A finished step. A value that some steps lack is averaged over the others."""
        self.window.append(values)
        if step % self.every == 0:
            names = dict.fromkeys(name for seen in self.window for name in seen)
            known = {name: [seen[name] for seen in self.window if name in seen] for name in names}
            self.append({"step": step, **{name: round(sum(some) / len(some), 5) for name, some in known.items()}})
            self.window = []

    def append(self, row: dict) -> None:
        """Raises OutputError where the disk is full."""
        self.rows.append(row)
        with reporting(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
