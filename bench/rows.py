# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark: a value, its unit, the goal it is held against, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

from rich.table import Table

from edge_vlm.files import write_json


@dataclass(frozen=True)
class Row:
    """One figure. ``goal`` None: reported only. ``value`` None: not measured, and ``note`` says why.

    better: "higher" or "lower", which way the figure should go.
    """

    name: str
    value: float | None
    unit: str = ""
    goal: float | None = None
    better: str = "lower"
    note: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise ValueError(f"{self.name}: better is 'higher' or 'lower', not {self.better!r}")
        for name in ("value", "goal"):  # NumPy's numbers would compare to NumPy's bool, which JSON does not know
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else float(number))

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without a goal. What was not measured does not hold."""
        if self.goal is None:
            return None
        if self.value is None or math.isnan(self.value):
            return False
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def to_json(self) -> dict:
        value = None if self.value is None or not math.isfinite(self.value) else round(self.value, 6)
        row = {"name": self.name, "value": value, "unit": self.unit, "goal": self.goal, "better": self.better}
        return row | {"holds": self.holds} | ({"note": self.note} if self.note else {})


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """The figures as people read them."""
    table = Table("figure", title=title, title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("holds")
    table.add_column("note")
    for row in rows:
        value = "not measured" if row.value is None else f"{row.value:.4g} {row.unit}".strip()
        sign = ">=" if row.better == "higher" else "<="
        goal = "" if row.goal is None else f"{sign} {row.goal:.4g} {row.unit}".strip()
        table.add_row(row.name, value, goal, {True: "yes", False: "NO", None: ""}[row.holds], row.note)
    return table


def seeds_note(values: Sequence[float]) -> str:
    """Over how many seeds a mean was taken, and their standard deviation."""
    return f"{len(values)} seeds, spread {stdev(values):.3f}" if len(values) > 1 else "one seed"


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The JSON list that a benchmark leaves behind. Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [row.to_json() for row in rows])
