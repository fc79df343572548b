# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark that have goals, as a picture: a bar each, and its goal as a line across."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row
from edge_vlm.files import whole_file

HELD, MISSED = "#2f7f5f", "#c8553d"


def draw_rows(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Writes a PNG of the rows of unit-less ratios that have a goal and a value."""
    from matplotlib.figure import Figure  # no window, and only where a picture is wanted

    shown = [row for row in rows if row.goal is not None and row.value is not None and not row.unit]
    figure = Figure(figsize=(10, 1 + 0.22 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    axes.barh(places, [row.value for row in shown], color=[HELD if row.holds else MISSED for row in shown], height=0.7)
    axes.vlines([row.goal for row in shown], [p - 0.45 for p in places], [p + 0.45 for p in places], color="black")
    axes.set_yticks(places, [row.name for row in shown], fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("value (bar) and goal (line); green: the goal holds", fontsize=8)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=80)
