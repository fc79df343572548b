# SPDX-License-Identifier: Apache-2.0
"""The event classifier in PyTorch: the captioner's vision encoder, the mean of its tokens, a class head.

It runs as on board: some tokens are computed as queries against the K,V of all, the others stay as they were computed
last. So it can be trained on the very schedule that the gate makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

from offline_compress.export.event_graph import CLASSIFIER
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.module_names import VISION

_POSITION_SPREAD, _PATCH_GAIN = 0.2, 3.0


@dataclass(frozen=True)
class TokenCaches:
    """K and V of every block, (B, N, D) each, and the last hidden state of all tokens (B, N, D)."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    hidden: torch.Tensor


class EventVit(nn.Module):
    """Patches of active tokens (B, A, C P P) -> logits (B, classes)."""

    def __init__(self, shape: VisionShape, classes: int) -> None:
        super().__init__()
        config = SmolVLMVisionConfig(
            hidden_size=shape.hidden_size, intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, image_size=shape.image_size,
            patch_size=shape.patch_size, num_channels=shape.channels, layer_norm_eps=shape.epsilon,
        )  # fmt: skip
        self.shape = shape
        self.vision = SmolVLMVisionTransformer(config)
        self.classifier = nn.Linear(shape.hidden_size, classes)
        # Event patches are mostly empty: with the usual start, neither they nor their places would be heard.
        nn.init.normal_(self.vision.embeddings.position_embedding.weight, std=_POSITION_SPREAD)
        with torch.no_grad():
            self.vision.embeddings.patch_embedding.weight.mul_(_PATCH_GAIN)

    def forward(
        self, patches: torch.Tensor, active: torch.Tensor | None = None, caches: TokenCaches | None = None
    ) -> tuple[torch.Tensor, TokenCaches]:
        """Logits (B, classes) and the new caches. ``active`` int64 (B, A): indices of the tokens whose patches are
        given; None for all of them, which needs no ``caches`` of an earlier call."""
        embeddings = self.vision.embeddings
        position = embeddings.position_embedding.weight
        position = position if active is None else functional.embedding(active, position)
        convolution = embeddings.patch_embedding
        hidden = functional.linear(patches, convolution.weight.flatten(1), convolution.bias) + position
        keys, values = [], []
        for index, block in enumerate(self.vision.encoder.layers):
            normed, attention = block.layer_norm1(hidden), block.self_attn
            key, value = attention.k_proj(normed), attention.v_proj(normed)
            if active is not None:
                key, value = put(caches.keys[index], active, key), put(caches.values[index], active, value)
            keys.append(key)
            values.append(value)
            hidden = hidden + attention.out_proj(self.attend(attention.q_proj(normed), key, value))
            hidden = hidden + block.mlp(block.layer_norm2(hidden))
        if active is not None:
            hidden = put(caches.hidden, active, hidden)
        logits = self.classifier(self.vision.post_layernorm(hidden).mean(1))
        return logits, TokenCaches(tuple(keys), tuple(values), hidden)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(B, A, D), (B, N, D), (B, N, D) -> (B, A, D)."""
        query, key, value = (x.unflatten(2, (self.shape.heads, -1)).transpose(1, 2) for x in (query, key, value))
        scores = torch.matmul(query * self.shape.head_dim**-0.5, key.transpose(2, 3))
        return torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2)

    def blank(self, batch: int) -> TokenCaches:
        """Caches after the first step of a stream, before any event."""
        weight = self.classifier.weight
        _, caches = self(torch.zeros((1, self.shape.tokens, self.shape.patch_values), dtype=weight.dtype))
        keys, values = (tuple(x.expand(batch, -1, -1) for x in part) for part in (caches.keys, caches.values))
        return TokenCaches(keys, values, caches.hidden.expand(batch, -1, -1))

    def tensors(self) -> dict[str, np.ndarray]:
        """Parameters by the names under which they are exported."""
        parts = {f"{VISION}.{name}": value for name, value in self.vision.state_dict().items()}
        parts |= {f"{CLASSIFIER}.{name}": value for name, value in self.classifier.state_dict().items()}
        return {name: value.detach().float().numpy() for name, value in parts.items()}


def put(cache: torch.Tensor, active: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A copy of ``cache`` (B, N, D) whose rows ``active`` (B, A) are ``rows`` (B, A, D)."""
    flat = cache.reshape(-1, cache.shape[2]).index_copy(0, flat_rows(active, cache.shape[1]), rows.flatten(0, 1))
    return flat.view(cache.shape)


def take(table: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
    """Rows ``active`` (B, A) of ``table`` (B, N, V): (B, A, V)."""
    flat = table.reshape(-1, table.shape[2]).index_select(0, flat_rows(active, table.shape[1]))
    return flat.view(*active.shape, table.shape[2])


def flat_rows(active: torch.Tensor, tokens: int) -> torch.Tensor:
    """Row numbers (B * A,) in a table (B * N, ...); scatter and gather along a middle axis are many times slower."""
    return (active + tokens * torch.arange(len(active))[:, None]).flatten()


def build_event_vit(shape: VisionShape, classes: Sequence[str], seed: int = 0) -> EventVit:
    """Random weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return EventVit(shape, len(classes)).float()
