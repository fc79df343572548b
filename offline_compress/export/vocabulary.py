# SPDX-License-Identifier: Apache-2.0
"""From a tokenizer to what captioning needs of it: the bytes of each token and the prompt's ids."""

from __future__ import annotations

import json

import numpy as np
from tokenizers import Tokenizer

from edge_vlm.runtime.tokenizer import prompt_text
from edge_vlm.runtime.vocabulary import Vocabulary
from offline_compress.export.prompt import Prompt

_TRIALS, _LONGEST_TRIAL = 300, 12


def spell_out(tokenizer_json: bytes, prompt: Prompt) -> Vocabulary | None:
    """None for a tokenizer that does not spell in bytes, or whose own decoding differs on random tokens."""
    decoder = json.loads(tokenizer_json).get("decoder") or {}
    if decoder.get("type") != "ByteLevel":
        return None
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    count = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    pieces = [b"" if number in special else spelling_of(tokenizer.id_to_token(number)) for number in range(count)]
    text = prompt_text(prompt, prompt.question)
    vocabulary = Vocabulary(
        np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32),
        np.cumsum([0, *map(len, pieces)]),
        b"".join(pieces),
    )
    return vocabulary if agrees(vocabulary, tokenizer, count) else None


def spelling_of(token: str | None) -> bytes:
    """The bytes that a byte-level token stands for; one that holds other characters stands for itself."""
    if token is None:
        return b""
    if any(letter not in _BYTES for letter in token):
        return token.encode("utf-8")
    return bytes(_BYTES[letter] for letter in token)


def bytes_of_letters() -> dict[str, int]:
    """Byte-level BPE (GPT-2) writes each byte as a letter: printable ones of Latin-1 as themselves, the others, in
    their order, as those from U+0100 on."""
    printable = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = bytes_of_letters()


def agrees(vocabulary: Vocabulary, tokenizer: Tokenizer, count: int) -> bool:
    rng = np.random.default_rng(0)
    trials = (rng.integers(0, count, rng.integers(1, _LONGEST_TRIAL)).tolist() for _ in range(_TRIALS))
    return all(vocabulary.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) for ids in trials)
