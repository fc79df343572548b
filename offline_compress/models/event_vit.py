# SPDX-License-Identifier: Apache-2.0
"""The event classifier in PyTorch: the captioner's vision encoder, the mean of its tokens, a class head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

from offline_compress.export.event_graph import CLASSIFIER
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.weights import VISION
from offline_compress.train.attention import NAME, plain_attention


class EventVit(nn.Module):
    """Patches (B, N, 3 P P) -> logits (B, classes)."""

    def __init__(self, shape: VisionShape, classes: int) -> None:
        super().__init__()
        AttentionInterface.register(NAME, plain_attention)
        config = SmolVLMVisionConfig(
            hidden_size=shape.hidden_size, intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, image_size=shape.image_size,
            patch_size=shape.patch_size, layer_norm_eps=shape.epsilon, attn_implementation=NAME,
        )  # fmt: skip
        self.shape = shape
        self.vision = SmolVLMVisionTransformer(config)
        self.classifier = nn.Linear(shape.hidden_size, classes)
        nn.init.normal_(self.vision.embeddings.position_embedding.weight, std=0.02)

    def forward(self, patches: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """``kept`` (B, K) token indices: the others are left out, of attention and of the mean too."""
        embeddings = self.vision.embeddings
        convolution = embeddings.patch_embedding
        hidden = functional.linear(patches, convolution.weight.flatten(1), convolution.bias)
        hidden = hidden + embeddings.position_embedding.weight
        if kept is not None:
            hidden = hidden.gather(1, kept[..., None].expand(-1, -1, hidden.shape[-1]))
        hidden = self.vision.encoder(inputs_embeds=hidden).last_hidden_state
        return self.classifier(self.vision.post_layernorm(hidden).mean(1))

    def tensors(self) -> dict[str, np.ndarray]:
        """Parameters by the names under which they are exported."""
        parts = {f"{VISION}.{name}": value for name, value in self.vision.state_dict().items()}
        parts |= {f"{CLASSIFIER}.{name}": value for name, value in self.classifier.state_dict().items()}
        return {name: value.detach().float().numpy() for name, value in parts.items()}


def build_event_vit(shape: VisionShape, classes: Sequence[str], seed: int = 0) -> EventVit:
    """Random weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return EventVit(shape, len(classes)).float()
