# SPDX-License-Identifier: Apache-2.0
"""Hidden states of all calibration pairs in a file, so that they need no memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from edge_vlm.files import reporting

STORED = {torch.float32: np.float32, torch.bfloat16: np.int16}
CHUNK_TOKENS = 8192  # of one pass through a block


class HiddenStates:
    """A file of (pairs, tokens, width), float32 or bfloat16; written from the first pair to the last, read in chunks.

    No memory map: pages of a mapped file would count as the process's own.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.path, self.shape, self.dtype = Path(path), shape, dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First and last pair of each chunk; the same for every run."""
        size = max(1, CHUNK_TOKENS // self.shape[1])
        for first in range(0, self.shape[0], size):
            yield first, min(first + size, self.shape[0])

    def read(self, first: int, last: int) -> torch.Tensor:
        """(last - first, tokens, width)."""
        values = self.shape[1] * self.shape[2]
        raw = np.fromfile(
            self.path, STORED[self.dtype], (last - first) * values, offset=first * values * self.dtype.itemsize
        )
        return torch.from_numpy(raw).view(self.dtype).reshape(last - first, *self.shape[1:])

    def write(self, first: int, values: torch.Tensor) -> None:
        """From pair ``first`` on; 0 begins the file anew. Raises OutputError where the disk is full."""
        with reporting(self.path):
            if first == 0:
                self.path.write_bytes(b"")
        self.overwrite(first, values)

    def overwrite(self, first: int, values: torch.Tensor) -> None:
        """In a file that may be whole already."""
        raw = values.detach().to(self.dtype).contiguous()
        raw = raw.view(torch.int16) if self.dtype == torch.bfloat16 else raw
        with reporting(self.path), open(self.path, "r+b") as file:
            file.seek(first * self.shape[1] * self.shape[2] * self.dtype.itemsize)
            file.write(raw.numpy().data)

    def is_whole(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.nbytes
