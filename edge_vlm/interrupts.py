# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM end a command in the same way."""

from __future__ import annotations

import signal

INTERRUPTED = 130


def interrupt(*_) -> None:
    """SIGTERM as Ctrl-C: also where a script started us in the background, which makes the system ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def interrupted() -> int:
    """The exit status after Ctrl-C, and that it is this one.

    CPython notes an interrupt that passed through the ``exec`` of a string, as dataclasses and named tuples run while
    they are imported, and then ends ``python -m`` by a signal of its own, whatever status was returned. The next
    ``exec`` of a string takes the note away.
    """
    exec("")
    return INTERRUPTED
