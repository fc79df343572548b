# SPDX-License-Identifier: Apache-2.0
"""A run on the terminal: a line per frame above a progress bar, then the figures. Or the same as JSON lines."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_vlm.replay.record import to_line
from edge_vlm.sources.source import ObservationSource
from edge_vlm.step_report import StepReport

HEADING = f"{'frame':>6} {'time s':>8} {'branch':<8} {'tokens':>9} {'ms':>7} {'J':>12}  caption"
_COLOURS = {"reuse": "green", "shallow": "cyan", "sparse": "yellow", "full": "red"}


class TerminalDisplay:
    """On a terminal with a progress bar and colours, else plain lines. Captions that were not decoded anew are dim."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = None
        self._first_stamp_ns: int | None = None

    def begin(self, source: ObservationSource) -> None:
        self.console.print(f"[bold]{escape(source.name)}[/]")
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("captioning"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._progress.add_task("captioning", total=source.expected_frames)
            self._progress.start()
        self._heading_due = True

    def note(self, line: str) -> None:
        self.console.print(f"[dim]note: {escape(line)}[/]")

    def frame(self, report: StepReport, record: dict) -> None:
        if self._heading_due:
            self.console.print(f"[bold]{HEADING}[/]")
            self._heading_due = False
        self.console.print(self._line(report))
        if self._progress is not None:
            self._progress.advance(self._task)

    def end(self, rows: list[tuple[str, str]], summary: dict) -> None:
        if self._progress is not None:
            self._progress.stop()
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in rows:
            table.add_row(f"[bold]{escape(name)}[/]", escape(value))
        self.console.print()
        self.console.print(table)

    def _line(self, report: StepReport) -> str:
        if self._first_stamp_ns is None:
            self._first_stamp_ns = report.stamp_ns
        joules = "unavailable" if report.energy.joules is None else f"{report.energy.joules:.3f}"
        said = report.caption.text if report.caption else f"({report.caption_reason})"
        colour = _COLOURS.get(report.branch, "white")
        seconds = (report.stamp_ns - self._first_stamp_ns) * 1e-9
        tokens = f"{report.tokens_computed}/{report.tokens_total}"
        caption = escape(said) if report.caption_refreshed else f"[dim]{escape(said)}[/]"
        reset = f" [magenta]reset: {escape(report.reset_reason)}[/]" if report.reset_reason else ""
        return (
            f"{report.index:>6} {seconds:>8.2f} [{colour}]{report.branch:<8}[/] {tokens:>9} "
            f"{report.total_ms:>7.1f} {joules:>12}  {caption}{reset}"
        )


class JsonDisplay:
    """One JSON object per line on stdout: the frames as in captions.jsonl, last {"summary": ...}. Notes on stderr."""

    def begin(self, source: ObservationSource) -> None:
        return

    def note(self, line: str) -> None:
        print(f"note: {line}", file=sys.stderr)

    def frame(self, report: StepReport, record: dict) -> None:
        self._write(record)

    def end(self, rows: list[tuple[str, str]], summary: dict) -> None:
        self._write({"summary": summary})

    @staticmethod
    def _write(record: dict) -> None:
        sys.stdout.buffer.write(to_line(record))
        sys.stdout.buffer.flush()
