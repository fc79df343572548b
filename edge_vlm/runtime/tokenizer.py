# SPDX-License-Identifier: Apache-2.0
"""Prompt text to token ids and back, through the bundle's own tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from edge_vlm.errors import BundleError, InputError
from edge_vlm.runtime.bundle import EXPORT_AGAIN, TOKENIZER_FILE, Bundle
from edge_vlm.runtime.memory_return import return_freed_memory


class CaptionTokenizer:
    """Builds prompts as training did; ``question`` None takes the bundle's own."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError where the tokenizer cannot be read or does not fit the model."""
        self.info = bundle.info
        path = bundle.file(TOKENIZER_FILE)
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path}: the tokenizer cannot be read ({error})", EXPORT_AGAIN) from error
        return_freed_memory()  # of reading it: as much again as a large vocabulary itself takes
        if self.tokenizer.get_vocab_size() > self.info.text.vocab_size:
            raise BundleError(f"{path}: more tokens than the model's {self.info.text.vocab_size}", EXPORT_AGAIN)
        self.prompts: dict[str, np.ndarray] = {}
        try:
            self.prompt()
        except InputError as error:
            raise BundleError(f"{path}: the bundle's own prompt does not fit: {error.what}", EXPORT_AGAIN) from error

    def prompt(self, question: str | None = None) -> np.ndarray:
        """Token ids int32 (T,) of the whole prompt. Raises InputError where the question cannot be asked."""
        question = self.info.prompt.question if question is None else question
        if question not in self.prompts:
            self.prompts = {question: self.build_prompt(question)}  # one is enough: questions change rarely
        return self.prompts[question]

    def build_prompt(self, question: str) -> np.ndarray:
        before, _, after = self.info.prompt.template.partition("{image}")
        text = before.replace("{question}", question) + self.info.prompt.image + after.replace("{question}", question)
        ids = np.array(self.encode(text), np.int32)
        found, expected = int((ids == self.info.text.image_token_id).sum()), self.info.vision.image_tokens
        if found != expected:
            raise InputError(
                f"the prompt holds {found} image tokens, the model needs {expected}",
                "leave markers such as <image> out of the question",
            )
        if len(ids) >= self.info.text.context_length:
            raise InputError(
                f"the prompt has {len(ids)} tokens, the model's context {self.info.text.context_length}",
                "ask a shorter question",
            )
        return ids

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Caption text without special tokens and outer blanks."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True).strip()
