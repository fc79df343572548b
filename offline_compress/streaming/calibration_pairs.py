# SPDX-License-Identifier: Apache-2.0
"""Calibration pairs on their way into a streamed model: sizes, masks, and what the first block of each half takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch.nn import functional

from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import EMBED_TOKENS
from offline_compress.models.families.siglip_llama import IMAGE_EMBEDDING, IMAGE_END, VISION_BLOCKS
from offline_compress.models.token_sequences import IGNORED_LABEL
from offline_compress.streaming.hidden_states import HiddenStates
from offline_compress.streaming.streamed_vlm import StreamedVlm

Batches = Sequence[Mapping[str, torch.Tensor]]


class CalibrationPairs:
    """``batches``: pixel_values (B, 1, 3, H, W), input_ids, attention_mask and, for sensitivity, labels (B, T)."""

    def __init__(self, vlm: StreamedVlm, batches: Batches) -> None:
        """Raises QuantizeError for a set without pairs, or padded at the front."""
        if not batches:
            raise QuantizeError("no calibration pairs", "give images with captions")
        self.vlm, self.batches = vlm, batches
        self.texts = [{key: value for key, value in batch.items() if key != "pixel_values"} for batch in batches]
        for text in self.texts:
            check_padding(text["attention_mask"])
        self.count = sum(len(text["input_ids"]) for text in self.texts)
        self.text_tokens = max(text["input_ids"].shape[1] for text in self.texts)

    def blocks(self) -> list[str]:
        """Of both halves, in order."""
        halves = self.vlm.family.halves(self.vlm.checkpoint.config)
        return [f"{half}.{index}" for half, count in halves for index in range(count)]

    def start_image(self, targets: Iterable[HiddenStates]) -> None:
        """Writes what the first vision block takes."""
        first = 0
        with self.vlm.loaded(*IMAGE_EMBEDDING) as model:
            for batch in self.batches:
                hidden = self.vlm.family.image_hidden(model, batch["pixel_values"])
                for target in targets:
                    target.write(first, hidden)
                first += len(hidden)

    def start_text(self, source: HiddenStates, target: HiddenStates) -> None:
        """From what the last vision block gives to what the first text block takes."""
        ids = self.token_ids()
        with self.vlm.loaded(*IMAGE_END, EMBED_TOKENS) as model:
            for first, last in source.chunks():
                features = self.vlm.family.image_features(model, source.read(first, last))
                target.write(first, self.vlm.family.text_hidden(model, ids[first:last], features))

    def token_ids(self) -> torch.Tensor:
        """(pairs, T), the shorter ones continued with their own last token; `valid` says where they end."""
        return torch.cat([self.widened(text["input_ids"], "replicate") for text in self.texts])

    def valid(self, blocks: str) -> torch.Tensor:
        """Tokens that are no padding, (pairs, T)."""
        if blocks == VISION_BLOCKS:
            return torch.ones(self.states_shape("image")[:2], dtype=torch.bool)
        return torch.cat([self.widened(text["attention_mask"], "constant") for text in self.texts]).bool()

    def answers(self) -> torch.Tensor:
        """Tokens after which one of the answer is said, (pairs, T)."""
        if any("labels" not in text for text in self.texts):
            raise QuantizeError("calibration pairs without labels", "give images with captions")
        known = torch.cat([functional.pad(text["labels"] != IGNORED_LABEL, (0, self.missing(text["labels"])))
                           for text in self.texts])  # fmt: skip
        return functional.pad(known[:, 1:], (0, 1))

    def widened(self, values: torch.Tensor, mode: str) -> torch.Tensor:
        missing = self.missing(values)
        if mode == "constant":
            return functional.pad(values, (0, missing))
        return torch.cat([values, values[:, -1:].expand(-1, missing)], 1)

    def missing(self, values: torch.Tensor) -> int:
        return self.text_tokens - values.shape[1]

    def states_shape(self, stage: str) -> tuple[int, int, int]:
        """(pairs, tokens, width) of `image`, `text` or a block."""
        vision, text = self.vlm.family.shapes(self.vlm.checkpoint.config)
        if stage == "image" or stage.startswith(VISION_BLOCKS):
            return self.count, vision.tokens, vision.hidden_size
        return self.count, self.text_tokens, text.hidden_size

    def cost(self, stage: str) -> float:
        """Multiply-accumulates of one pass through a block."""
        if stage in ("image", "text"):
            return 0.0
        pairs, tokens, width = self.states_shape(stage)
        shapes = self.vlm.family.parameter_shapes(self.vlm.checkpoint.config, True)
        weights = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(f"{stage}."))
        return float(pairs * tokens * (weights + 2 * tokens * width))

    def digest(self) -> str:
        digest = hashlib.sha256()
        for batch in self.batches:
            for name in ("pixel_values", "input_ids", "attention_mask"):
                digest.update(batch[name].contiguous().numpy().tobytes())
        return digest.hexdigest()


def check_padding(mask: torch.Tensor) -> None:
    """mask (B, T): tokens first, then padding."""
    if (mask[:, 1:] > mask[:, :-1]).any() or not mask[:, 0].all():
        raise QuantizeError("calibration texts are padded at the front, or empty", "pad at the end")
