# SPDX-License-Identifier: Apache-2.0
"""Runs text.tflite: prompt and image features in, a greedy caption out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edge_vlm.errors import BundleError, InputError
from edge_vlm.runtime.bundle import EXPORT_AGAIN, TEXT_FILE, Bundle
from edge_vlm.runtime.interpreter import open_graph
from edge_vlm.runtime.tokenizer import CaptionTokenizer


@dataclass(frozen=True)
class Generation:
    """A caption. ``token_ids`` and ``token_probabilities`` leave the end marker out; ``finished``: it came."""

    text: str
    token_ids: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    finished: bool
    prompt_tokens: int
    prefill_ms: float
    decode_ms: float

    @property
    def score(self) -> float:
        """Geometric mean of the token probabilities, 0..1; 0 for an empty caption."""
        if not self.token_probabilities:
            return 0.0
        return float(np.exp(np.mean(np.log(np.maximum(self.token_probabilities, 1e-30)))))


class TextDecoder:
    """Greedy decoding against the graph's own KV cache, which every call fills anew."""

    def __init__(self, bundle: Bundle, threads: int | None = None, engine: str | None = None) -> None:
        """As `VisionEncoder`. Raises BundleError or OperatorError where tokenizer or graph cannot run."""
        self.info = bundle.info
        self.tokenizer = CaptionTokenizer(bundle)
        self.graph = open_graph(bundle.file(TEXT_FILE), threads, engine)
        for name in ("prefill", "score", "decode"):
            if name not in self.graph.signatures:
                raise BundleError(f"{bundle.file(TEXT_FILE)}: no signature {name}", EXPORT_AGAIN)

    def close(self) -> None:
        """Free the graph and its caches; the decoder is of no use afterwards."""
        self.graph = None

    def generate(
        self, image_features: np.ndarray, question: str | None = None, max_new_tokens: int | None = None
    ) -> Generation:
        """Caption of ``image_features`` (I, D). Raises InputError where the question cannot be asked."""
        start = time.perf_counter()
        prompt = self.tokenizer.prompt(question)
        logits = self.run("prefill", prompt, 0, image_features)[-1]
        prefilled = time.perf_counter()
        limit = self.info.generation.max_new_tokens if max_new_tokens is None else max_new_tokens
        room = self.info.text.context_length - len(prompt)
        token_ids, probabilities, finished = self.decode_greedily(logits, len(prompt), min(limit, room))
        done = time.perf_counter()
        return Generation(
            text=self.tokenizer.decode(token_ids),
            token_ids=tuple(token_ids),
            token_probabilities=tuple(probabilities),
            finished=finished,
            prompt_tokens=len(prompt),
            prefill_ms=1e3 * (prefilled - start),
            decode_ms=1e3 * (done - prefilled),
        )

    def decode_greedily(self, logits: np.ndarray, position: int, limit: int) -> tuple[list[int], list[float], bool]:
        """From the logits (V,) of the last prompt token to the end marker, or ``limit`` tokens."""
        token_ids: list[int] = []
        probabilities: list[float] = []
        while len(token_ids) < limit:
            token = int(np.argmax(logits))
            if token == self.info.text.eos_token_id:
                return token_ids, probabilities, True
            token_ids.append(token)
            probabilities.append(float(np.exp(log_probabilities(logits)[token])))
            if len(token_ids) < limit:
                logits = self.run("decode", np.array([token], np.int32), position)[-1]
                position += 1
        return token_ids, probabilities, False

    def score(self, image_features: np.ndarray, text: str, question: str | None = None) -> np.ndarray:
        """Natural log-probabilities float64 (tokens,) of a caption and its end marker, given the image.

        exp(-mean) over a corpus is its perplexity. Raises InputError where the text is too long.
        """
        prompt = self.tokenizer.prompt(question)
        caption = [*self.tokenizer.encode(" " + text.strip()), self.info.text.eos_token_id]
        if len(prompt) + len(caption) > self.info.text.context_length:
            raise InputError(f"a text of {len(caption)} tokens does not fit the context", "score a shorter text")
        token_ids = np.concatenate([prompt, np.array(caption, np.int32)])[:-1]
        logits = self.run("score", token_ids, 0, image_features)[len(prompt) - 1 :]  # row t predicts token t + 1
        return log_probabilities(logits)[np.arange(len(caption)), caption]

    def run(
        self, signature: str, token_ids: np.ndarray, position: int, image_features: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits float32 (rows, V) of tokens that stand at ``position`` and after."""
        positions = np.arange(position, position + len(token_ids), dtype=np.int32)
        inputs = {"token_ids": token_ids, "positions": positions}
        if image_features is not None:
            inputs["image_features"] = image_features
        return self.graph.run(signature, inputs)["logits"]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
