# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C waits until what is being written is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block an interrupt is only noted; it comes when the block ends. Does nothing on other threads, which
    get no interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if noted:
        signal.raise_signal(signal.SIGINT)
