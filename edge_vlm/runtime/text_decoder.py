# SPDX-License-Identifier: Apache-2.0
"""Runs text.tflite: prompt and image features in, a caption out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from custom_ops import reference
from edge_vlm.errors import BundleError, InputError
from edge_vlm.runtime.bundle import EXPORT_AGAIN, TEXT_FILE, Bundle
from edge_vlm.runtime.interpreter import open_graph
from edge_vlm.runtime.tokenizer import CaptionTokenizer


@dataclass(frozen=True)
class Generation:
    """A caption. ``token_ids`` and ``token_probabilities`` leave the end marker out; ``finished``: it came.

    ``prefilled_tokens`` of the ``prompt_tokens`` were computed, ``prefilled_images`` of them image tokens; the others'
    K,V were there from the call before. ``decoded_tokens`` ran after the prompt, in ``decode_calls`` calls: the
    caption but for its last token, and what of a draft was not followed.
    """

    text: str
    token_ids: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    finished: bool
    prompt_tokens: int
    prefilled_tokens: int
    prefilled_images: int
    decoded_tokens: int
    decode_calls: int
    prefill_ms: float
    decode_ms: float

    @property
    def score(self) -> float:
        """Geometric mean of the token probabilities, 0..1; 0 for an empty caption."""
        if not self.token_probabilities:
            return 0.0
        return float(np.exp(np.mean(np.log(np.maximum(self.token_probabilities, 1e-30)))))


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. ``temperature`` 0: the likeliest; above, drawn among the ``top_k`` likeliest (0: all).

    A draw depends on seed and position alone: the same call gives the same caption. Raises ValueError.
    """

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf") and 0 <= self.top_k < 2**31 and -(2**31) <= self.seed < 2**31):
            raise ValueError(f"{self}: temperature and top_k must not be negative, all must be finite int32 or float")


GREEDY = Sampling()


@dataclass(frozen=True)
class Next:
    """The tokens chosen to follow some rows, and their probabilities: both (rows,)."""

    token_ids: np.ndarray
    probabilities: np.ndarray

    def at(self, row: int) -> tuple[int, float]:
        return int(self.token_ids[row]), float(self.probabilities[row])


@dataclass(frozen=True)
class Held:
    """What the graph's KV cache holds: a prompt, the image features it was computed with (a copy), the token that
    follows it, how that was chosen, and the caption, which is the next one's draft."""

    prompt: np.ndarray
    image_features: np.ndarray
    first: tuple[int, float]
    sampling: Sampling
    caption: tuple[int, ...] = ()


class TextDecoder:
    """Decoding token by token against the graph's own KV cache.

    Two things are kept from call to call, and neither changes a bit of the result (in NumPy it rounds otherwise).
    Prompt tokens before the first image token whose features differ keep their K,V (attention is causal). The caption
    of the call before is the draft of the next: all of its tokens run at once, and single steps begin where
    decoding leaves it.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, engine: str | None = None) -> None:
        """As `VisionEncoder`. Raises BundleError or OperatorError where tokenizer or graph cannot run."""
        self.info = bundle.info
        self.tokenizer = CaptionTokenizer(bundle)
        self.graph = open_graph(bundle.file(TEXT_FILE), threads, engine)
        for name in ("prefill", "score", "decode"):
            if name not in self.graph.signatures:
                raise BundleError(f"{bundle.file(TEXT_FILE)}: no signature {name}", EXPORT_AGAIN)
        self.image_token_id = self.info.text.image_token_id
        self.held: Held | None = None
        self.decoded_tokens = self.decode_calls = 0  # of the caption in hand

    def reset(self) -> None:
        """Forget prompt and caption of the call before: the next call computes everything."""
        self.held = None

    def close(self) -> None:
        """Free the graph and its caches; the decoder is of no use afterwards."""
        self.graph = self.held = None

    def generate(
        self,
        image_features: np.ndarray,
        question: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        """Caption of ``image_features`` (I, D). Raises InputError where the question cannot be asked."""
        start = time.perf_counter()
        prompt = self.prompt(question, len(image_features))
        held, prefilled_tokens = self.prefill(prompt, image_features, sampling)
        prefilled = time.perf_counter()
        limit = self.info.generation.max_new_tokens if max_new_tokens is None else max_new_tokens
        room = self.info.text.context_length - len(prompt)
        self.decoded_tokens = self.decode_calls = 0
        token_ids, probabilities, finished = self.decode(held, min(limit, room))
        done = time.perf_counter()
        self.held = replace(held, caption=tuple(token_ids))
        return Generation(
            text=self.tokenizer.decode(token_ids),
            token_ids=tuple(token_ids),
            token_probabilities=tuple(probabilities),
            finished=finished,
            prompt_tokens=len(prompt),
            prefilled_tokens=prefilled_tokens,
            prefilled_images=int(np.count_nonzero(prompt[len(prompt) - prefilled_tokens :] == self.image_token_id)),
            decoded_tokens=self.decoded_tokens,
            decode_calls=self.decode_calls,
            prefill_ms=1e3 * (prefilled - start),
            decode_ms=1e3 * (done - prefilled),
        )

    def prompt(self, question: str | None, image_tokens: int) -> np.ndarray:
        """Token ids int32 (T,) of the prompt, with fewer image tokens where some have been merged."""
        prompt = self.tokenizer.prompt(question)
        surplus = self.info.vision.image_tokens - image_tokens
        if surplus <= 0:
            return prompt
        return np.delete(prompt, np.flatnonzero(prompt == self.image_token_id)[:surplus])

    def prefill(self, prompt: np.ndarray, image_features: np.ndarray, sampling: Sampling) -> tuple[Held, int]:
        """Fill the KV cache from the first token on that differs from what is held; how many tokens that took."""
        held, self.held = self.held, None  # until the graph has run to its end
        held = held if held is not None and held.sampling == sampling else None
        begin, image_begin = self.first_difference(held, prompt, image_features)
        if begin == len(prompt):
            return held, 0
        first = self.choose("prefill", prompt[begin:], begin, sampling, image_features[image_begin:]).at(-1)
        caption = held.caption if held is not None else ()
        return Held(prompt, np.array(image_features), first, sampling, caption), len(prompt) - begin

    def first_difference(self, held: Held | None, prompt: np.ndarray, image_features: np.ndarray) -> tuple[int, int]:
        """Index of the first prompt token to compute, and of the first image token from there on."""
        same_shape = held is not None and held.image_features.shape == image_features.shape
        if not same_shape or not np.array_equal(held.prompt, prompt):
            return 0, 0
        differs = (held.image_features != image_features).any(axis=1)
        if not differs.any():
            return len(prompt), len(image_features)
        image = int(np.argmax(differs))
        return int(np.flatnonzero(prompt == self.image_token_id)[image]), image

    def decode(self, held: Held, limit: int) -> tuple[list[int], list[float], bool]:
        """From the prompt to the end marker, or ``limit`` tokens: ids, probabilities, and whether the end marker came.

        While the tokens are those of the draft, what follows them is there already.
        """
        draft, position, (token, probability) = held.caption[:limit], len(held.prompt), held.first
        follows = bool(draft) and token == draft[0]
        after_draft = self.step(draft, position, held.sampling) if follows else None
        token_ids: list[int] = []
        probabilities: list[float] = []
        while len(token_ids) < limit:
            if token == self.info.text.eos_token_id:
                return token_ids, probabilities, True
            count = len(token_ids)
            token_ids.append(token)
            probabilities.append(probability)
            if count + 1 < limit:
                follows = follows and count < len(draft) and token == draft[count]
                found = after_draft if follows else self.step([token], position + count, held.sampling)
                token, probability = found.at(count if follows else -1)
        return token_ids, probabilities, False

    def step(self, token_ids: Sequence[int], position: int, sampling: Sampling) -> Next:
        """One decode call."""
        self.decoded_tokens, self.decode_calls = self.decoded_tokens + len(token_ids), self.decode_calls + 1
        return self.choose("decode", np.array(token_ids, np.int32), position, sampling)

    def choose(
        self,
        signature: str,
        token_ids: np.ndarray,
        position: int,
        sampling: Sampling,
        image_features: np.ndarray | None = None,
    ) -> Next:
        """The tokens that follow, chosen in the graph; bundles of earlier versions give logits instead."""
        inputs = self.inputs(token_ids, position, image_features)
        if f"{signature}_token" not in self.graph.signatures:
            return next_of(self.graph.run(signature, inputs)["logits"], inputs["positions"], sampling)
        inputs["temperature"] = np.array([sampling.temperature], np.float32)
        inputs["choice"] = np.array([sampling.top_k, sampling.seed], np.int32)
        found = self.graph.run(f"{signature}_token", inputs)["next"]
        return Next(found[:, 0].astype(np.int64), np.exp(found[:, 1]))

    def score(self, image_features: np.ndarray, text: str, question: str | None = None) -> np.ndarray:
        """Natural log-probabilities float64 (tokens,) of a caption and its end marker, given the image.

        exp(-mean) over a corpus is its perplexity. Raises InputError where the text is too long.
        """
        prompt = self.tokenizer.prompt(question)
        caption = [*self.tokenizer.encode(" " + text.strip()), self.info.text.eos_token_id]
        if len(prompt) + len(caption) > self.info.text.context_length:
            raise InputError(f"a text of {len(caption)} tokens does not fit the context", "score a shorter text")
        token_ids = np.concatenate([prompt, np.array(caption, np.int32)])[:-1]
        self.reset()  # the caption is written over what is held
        logits = self.run("score", token_ids, 0, image_features)[len(prompt) - 1 :]  # row t predicts token t + 1
        return log_probabilities(logits)[np.arange(len(caption)), caption]

    def run(
        self, signature: str, token_ids: np.ndarray, position: int, image_features: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits float32 (rows, V) of tokens that stand at ``position`` and after."""
        return self.graph.run(signature, self.inputs(token_ids, position, image_features))["logits"]

    def inputs(self, token_ids: np.ndarray, position: int, image_features: np.ndarray | None) -> dict[str, np.ndarray]:
        positions = np.arange(position, position + len(token_ids), dtype=np.int32)
        inputs = {"token_ids": token_ids, "positions": positions}
        return inputs if image_features is None else {**inputs, "image_features": image_features}


def next_of(logits: np.ndarray, positions: np.ndarray, sampling: Sampling) -> Next:
    """What the graph would choose, from its logits float32 (rows, V)."""
    if sampling.temperature == 0:
        token_ids = np.argmax(logits, axis=-1)
        return Next(token_ids, np.exp(log_probabilities(logits)[np.arange(len(logits)), token_ids]))
    heat, choice = np.array([sampling.temperature]), np.array([sampling.top_k, sampling.seed])
    found = reference.sample(logits, positions, heat, choice)
    return Next(found[:, 0].astype(np.int64), np.exp(found[:, 1]))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
