# SPDX-License-Identifier: Apache-2.0
"""Progress with the time that is left: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 20.0
LOG_WIDTH = 140


def open_console() -> Console:
    """Standard output; wide where it is a log, so that tables do not wrap."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


@contextlib.contextmanager
def counted(title: str, total: int, console: Console) -> Iterator[Callable[..., None]]:
    """Gives a function ``advance(done, note="")``."""
    if not console.is_terminal:
        yield line_writer(title, total, console)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)


def line_writer(title: str, total: int, console: Console) -> Callable[..., None]:
    began: list[tuple[float, int]] = []  # (time, done) of the first call: a resumed run starts in the middle
    printed = [0.0]

    def advance(done: int, note: str = "") -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done))
        if done < total and now - printed[0] < LINE_EVERY_S:
            return
        printed[0] = now
        start, first = began[0]
        left = f", {(now - start) / (done - first) * (total - done):.0f} s left" if done > first else ""
        console.print(f"{title} {done}/{total}, {now - start:.0f} s{left}  {note}", highlight=False)

    return advance
