# SPDX-License-Identifier: Apache-2.0
"""What each token spells, and the ids of the bundle's own prompt: all that captioning needs of a tokenizer.

A large tokenizer takes 0.1 s and 15 MB to read; it is opened where somebody asks another question. vocabulary.bin,
little endian: the numbers of tokens and of prompt ids, the prompt ids, where the bytes of each token begin and the last
one's end (all int32), and the bytes. Special tokens spell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import EXPORT_AGAIN

_NUMBERS = np.dtype("<i4")


@dataclass(frozen=True)
class Vocabulary:
    """``prompt``: ids int32 (T,). ``offsets`` (tokens + 1,) into ``spelling``."""

    prompt: np.ndarray
    offsets: np.ndarray
    spelling: bytes

    @property
    def tokens(self) -> int:
        return len(self.offsets) - 1

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a byte-level vocabulary; what is no UTF-8 becomes U+FFFD, unknown ids nothing."""
        known = (token for token in token_ids if 0 <= token < self.tokens)
        pieces = [self.spelling[self.offsets[token] : self.offsets[token + 1]] for token in known]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def to_bytes(self) -> bytes:
        counts = np.array([self.tokens, len(self.prompt)], _NUMBERS)
        return b"".join(
            part.astype(_NUMBERS).tobytes() for part in (counts, self.prompt, self.offsets)
        ) + self.spelling  # fmt: skip


def read_vocabulary(path: Path) -> Vocabulary:
    """Raises BundleError where the file does not hold what it says."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})", EXPORT_AGAIN) from error
    numbers = np.frombuffer(data, _NUMBERS, len(data) // _NUMBERS.itemsize)
    tokens, prompt = numbers[:2].tolist() if len(numbers) >= 2 else (-1, -1)
    if tokens < 0 or prompt < 0 or len(numbers) < 3 + tokens + prompt:
        raise BundleError(f"{path}: cut off", EXPORT_AGAIN)
    offsets = numbers[2 + prompt : 3 + prompt + tokens]
    spelling = data[(3 + prompt + tokens) * _NUMBERS.itemsize :]
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(spelling):
        raise BundleError(f"{path}: the tokens do not lie in it one behind the other", EXPORT_AGAIN)
    return Vocabulary(numbers[2 : 2 + prompt].astype(np.int32), offsets, spelling)
