# SPDX-License-Identifier: Apache-2.0
"""One .db3 file of rosbag2: by its time index, row by row where it was cut.

Read with sqlite3 itself, not rosbags, which counts every message when it opens a file and so refuses a cut one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from edge_vlm.errors import SourceError
from edge_vlm.sources.bag_storage import RERECORD, RawMessage, TopicInfo, damaged


class SqliteStorage:
    """A Storage of CDR serialised messages."""

    ros1 = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = _missing_pages(path)
        self._connection = _connect(path)
        try:
            self._names = self._topic_names()
            self.topics = self._count()
        except sqlite3.DatabaseError as error:
            self.close()
            raise SourceError(f"{path} has no readable rosbag2 tables: {error}", RERECORD) from error

    def close(self) -> None:
        self._connection.close()

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        wanted = [number for number, (name, _) in self._names.items() if name in topics]
        try:
            yield from self._in_row_order(wanted) if self.damage else self._in_time_order(wanted)
        except sqlite3.Error as error:
            raise self.damage or damaged(self.path, error) from error
        if self.damage is not None:
            raise self.damage

    def _topic_names(self) -> dict[int, tuple[str, str]]:
        rows = self._connection.execute("SELECT id, name, type FROM topics ORDER BY id").fetchall()
        self._connection.execute("SELECT topic_id, timestamp, data FROM messages LIMIT 0")
        if any(not isinstance(name, str) or not isinstance(kind, str) for _, name, kind in rows):
            raise sqlite3.DatabaseError("topics without name or type")
        return {number: (name, message_type) for number, name, message_type in rows}

    def _count(self) -> list[TopicInfo]:
        """Messages per topic; of a cut file those that can be read."""
        counts = dict.fromkeys(self._names, 0)
        try:
            for (number,) in self._connection.execute("SELECT topic_id FROM messages"):
                if number in counts:
                    counts[number] += 1
        except sqlite3.DatabaseError as error:
            self.damage = self.damage or damaged(self.path, error)
        return [TopicInfo(name, kind, counts[number]) for number, (name, kind) in self._names.items()]

    def _in_time_order(self, wanted: list[int]) -> Iterator[RawMessage]:
        # Only row numbers are sorted, so that no image is held in memory where the file has no time index.
        marks = ",".join("?" * len(wanted))
        rows = self._connection.execute(
            f"SELECT rowid FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp, rowid", wanted
        )
        one = self._connection.cursor()
        for row in rows:
            yield self._message(
                one.execute("SELECT topic_id, timestamp, data FROM messages WHERE rowid = ?", row).fetchone()
            )

    def _in_row_order(self, wanted: list[int]) -> Iterator[RawMessage]:
        rows = self._connection.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY rowid")
        yield from (self._message(row) for row in rows if row[0] in wanted)

    def _message(self, row: tuple[int, int, bytes] | None) -> RawMessage:
        if row is None or row[0] not in self._names or not isinstance(row[1], int) or not isinstance(row[2], bytes):
            raise sqlite3.DatabaseError("a row that is no message")
        return RawMessage(self._names[row[0]][0], row[1], row[2])


def _missing_pages(path: Path) -> SourceError | None:
    """SQLite's header holds the page size (bytes 16-17, 1 means 65536) and the number of pages (bytes 28-31)."""
    with path.open("rb") as stream:
        head = stream.read(100)
    page_bytes = int.from_bytes(head[16:18], "big")
    expected = int.from_bytes(head[28:32], "big") * (65536 if page_bytes == 1 else page_bytes)
    actual = path.stat().st_size
    return damaged(path, f"it has {actual} of {expected} bytes") if actual < expected else None


def _connect(path: Path) -> sqlite3.Connection:
    # A recorder that was killed leaves its last messages in the write-ahead log, which "immutable" would ignore.
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, check_same_thread=False)
    # Lets SQLite read what is there of a file that is shorter than its header says; nothing is ever written.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA query_only = ON")
    return connection
