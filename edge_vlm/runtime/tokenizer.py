# SPDX-License-Identifier: Apache-2.0
"""Prompt text to token ids and back: by the bundle's vocabulary, else through its own tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from edge_vlm.errors import BundleError, InputError
from edge_vlm.runtime.bundle import EXPORT_AGAIN, TOKENIZER_FILE, VOCABULARY_FILE, Bundle, PromptInfo
from edge_vlm.runtime.memory_return import return_freed_memory
from edge_vlm.runtime.vocabulary import Vocabulary, read_vocabulary


class CaptionTokenizer:
    """Builds prompts as training did; ``question`` None takes the bundle's own."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError where the vocabulary or the tokenizer cannot be read or does not fit the model."""
        self.bundle, self.info = bundle, bundle.info
        self.vocabulary = self.read_vocabulary()
        self.prompts: dict[str, np.ndarray] = {}
        try:
            self.prompt()
        except InputError as error:
            source = bundle.file(TOKENIZER_FILE if self.vocabulary is None else VOCABULARY_FILE)
            problem = f"{source}: the bundle's own prompt does not fit: {error.what}"
            raise BundleError(problem, EXPORT_AGAIN) from error

    def read_vocabulary(self) -> Vocabulary | None:
        if VOCABULARY_FILE not in self.info.files:  # not a byte-level tokenizer, or of an older export
            return None
        path, size = self.bundle.file(VOCABULARY_FILE), self.info.text.vocab_size
        vocabulary = read_vocabulary(path)
        prompt = vocabulary.prompt
        if vocabulary.tokens > size or (prompt < 0).any() or (prompt >= size).any():
            raise BundleError(f"{path}: does not fit the model's {size} tokens", EXPORT_AGAIN)
        return vocabulary

    @cached_property
    def tokenizer(self):
        """tokenizer.json, read when it is first needed. Raises BundleError."""
        from tokenizers import Tokenizer

        path = self.bundle.file(TOKENIZER_FILE)
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path}: the tokenizer cannot be read ({error})", EXPORT_AGAIN) from error
        return_freed_memory()  # of reading it: as much again as a large vocabulary itself takes
        if tokenizer.get_vocab_size() > self.info.text.vocab_size:
            raise BundleError(f"{path}: more tokens than the model's {self.info.text.vocab_size}", EXPORT_AGAIN)
        return tokenizer

    def prompt(self, question: str | None = None) -> np.ndarray:
        """Token ids int32 (T,) of the whole prompt. Raises InputError where the question cannot be asked."""
        question = self.info.prompt.question if question is None else question
        if question not in self.prompts:
            self.prompts = {question: self.build_prompt(question)}  # one is enough: questions change rarely
        return self.prompts[question]

    def build_prompt(self, question: str) -> np.ndarray:
        if self.vocabulary is not None and question == self.info.prompt.question:
            ids = self.vocabulary.prompt
        else:
            ids = np.array(self.encode(prompt_text(self.info.prompt, question)), np.int32)
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
        if self.vocabulary is not None:
            return self.vocabulary.decode(token_ids).strip()
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True).strip()


def prompt_text(prompt: PromptInfo, question: str) -> str:
    """The template with image and question put in; a question that holds {image} is left as it is."""
    before, _, after = prompt.template.partition("{image}")
    return before.replace("{question}", question) + prompt.image + after.replace("{question}", question)
