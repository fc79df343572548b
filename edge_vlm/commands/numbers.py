# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line: argparse types that refuse what no command can use, and say what it may be."""

from __future__ import annotations

import argparse

from custom_ops.spec import MOST_THREADS


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)


def threads(text: str) -> int:
    """Threads of the inference engine."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_THREADS}")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return number
