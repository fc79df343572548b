# SPDX-License-Identifier: Apache-2.0
"""Files that are whole at every moment: lines that are complete or absent, and files that appear when finished."""

from __future__ import annotations

import os
from pathlib import Path

from edge_vlm.errors import OutputError

FREE_SPACE = "free disk space or check permissions, then run it again"


class LineFile:
    """Appends lines to a new file; each is handed to the system at once, and is there as a whole or not at all.

    Raises:
        OutputError: the file cannot be created or written; the lines before stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, line: bytes) -> None:
        """Append one line, newline included."""
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk takes a part first and refuses the rest
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise cannot_write(self.path, error) from error
        self._size += len(line)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it.

    Raises:
        OutputError: it cannot be written; a former file of that name stays as it was.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}", FREE_SPACE)
