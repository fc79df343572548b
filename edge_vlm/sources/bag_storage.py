# SPDX-License-Identifier: Apache-2.0
"""What the three kinds of recording files have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_vlm.errors import SourceError

RERECORD = "record it again, or repair it with the tools of its recorder"


@dataclass(frozen=True)
class TopicInfo:
    """``message_count`` of a cut file counts the messages that seem readable."""

    name: str
    message_type: str
    message_count: int


@dataclass(frozen=True)
class RawMessage:
    """``receive_ns`` is when the recorder got it; ``data`` its serialised bytes."""

    topic: str
    receive_ns: int
    data: bytes


def damaged(path: Path, cause: object) -> SourceError:
    """The error of a file that ends or breaks before its end."""
    return SourceError(f"{path} is cut or damaged: {cause}", f"what can be read of it is used; {RERECORD}")


class Storage(Protocol):
    """One file of a recording, closed by ``close()``.

    ``ros1`` says how messages are serialised. ``messages`` yields in order of ``receive_ns`` where the file has an
    index, in the order of the file where it is cut; after everything that can be read of a cut file it raises
    ``damage``, or what it ran into.
    """

    ros1: bool
    topics: list[TopicInfo]
    damage: SourceError | None

    def messages(self, topics: set[str]) -> Iterator[RawMessage]: ...

    def close(self) -> None: ...
