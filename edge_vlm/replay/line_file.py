# SPDX-License-Identifier: Apache-2.0
"""A file of lines that are complete or absent at every moment."""

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


def cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}", FREE_SPACE)
