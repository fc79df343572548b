# SPDX-License-Identifier: Apache-2.0
"""text.tflite: the Llama text model as signatures over the same weights and the same KV cache.

``prefill``  token_ids i32 (T,), positions i32 (T,), image_features f32 (I, D) -> logits f32 (1, V) of the last row
``score``    the same inputs -> logits f32 (T, V)
``decode``   token_ids i32 (T,), positions i32 (T,) -> logits f32 (T, V)

``prefill_token`` and ``decode_token`` take temperature f32 (1,) and choice i32 (2,) besides, and give ``next`` f32
(rows, 2) in place of the logits: the token that follows each row and its log-probability (spec.Sample).
"""

from __future__ import annotations

import numpy as np

from custom_ops.spec import Attention, CacheFormat, Embedding, Norm, NormKind, Sample, SwiGlu
from offline_compress.export.graph_builder import DYNAMIC, GraphBuilder, ModelBuilder, NormWeights
from offline_compress.export.model_shape import TextShape
from offline_compress.export.module_names import EMBED_TOKENS, HEAD, TEXT, text_block_names
from offline_compress.export.weights import ModelWeights


def add_text_signatures(
    model: ModelBuilder,
    weights: ModelWeights,
    shape: TextShape,
    context_length: int,
    image_tokens: int,
    cache_format: CacheFormat,
) -> None:
    """Add all of them to the model."""
    template = TextTemplate(weights, shape, context_length, cache_format)
    for name in ("prefill", "score", "decode", "prefill_token", "decode_token"):
        graph = model.graph(name)
        rows = 1 if name.startswith("decode") else DYNAMIC
        token_ids = graph.input("token_ids", (rows,), np.int32)
        positions = graph.input("positions", (rows,), np.int32)
        image = None
        if not name.startswith("decode"):
            image = graph.input("image_features", (image_tokens, shape.hidden_size), np.float32)
        logits = template.logits(graph, token_ids, positions, image, last_row_only=name.startswith("prefill"))
        if name.endswith("token"):
            heat, choice = graph.input("temperature", (1,), np.float32), graph.input("choice", (2,), np.int32)
            graph.finish(next=graph.custom(Sample(shape.vocab_size), [logits, positions, heat, choice]))
        else:
            graph.finish(logits=logits)


class TextTemplate:
    """Builds the graphs of one model; holds no state but what it is given."""

    def __init__(self, weights: ModelWeights, shape: TextShape, context_length: int, cache_format: CacheFormat) -> None:
        self.weights, self.shape = weights, shape
        self.context_length, self.cache_format = context_length, cache_format
        names = [text_block_names(layer) for layer in range(shape.layers)]
        self.qkv = [weights.fused(block[:3]) for block in names]
        self.gate_up = [weights.fused(block[4:6]) for block in names]

    def logits(
        self, graph: GraphBuilder, token_ids: int, positions: int, image: int | None, last_row_only: bool
    ) -> int:
        hidden = self.embed(graph, token_ids, image)
        for layer in range(self.shape.layers):
            final = layer == self.shape.layers - 1
            hidden = self.block(graph, hidden, positions, layer, last_row_only and final)
        return graph.linear(hidden, self.weights.linears[HEAD], norm=self.norm(f"{TEXT}.norm"))

    def embed(self, graph: GraphBuilder, token_ids: int, image: int | None) -> int:
        table = self.weights.linears[HEAD if self.weights.tied else EMBED_TOKENS]
        image_token = self.shape.image_token_id
        attributes = Embedding(
            table.format, self.shape.vocab_size, self.shape.hidden_size, image_token, int(image is not None)
        )
        inputs = [token_ids, *graph.model.table(table)]
        return graph.custom(attributes, inputs if image is None else [*inputs, image])

    def block(self, graph: GraphBuilder, hidden: int, positions: int, layer: int, last_row_only: bool) -> int:
        """Pre-norm block. With ``last_row_only`` nothing but K,V is computed for the rows before the last."""
        name, linears = f"{TEXT}.layers.{layer}", self.weights.linears
        qkv = graph.linear(hidden, self.qkv[layer], norm=self.norm(f"{name}.input_layernorm"))
        attended = graph.custom(self.attention(layer), [qkv, positions])
        if last_row_only:
            attended, hidden = graph.writer.last_row(attended), graph.writer.last_row(hidden)
        hidden = graph.linear(attended, linears[f"{name}.self_attn.o_proj"], residual=hidden)
        gate_up = graph.linear(hidden, self.gate_up[layer], norm=self.norm(f"{name}.post_attention_layernorm"))
        inner = graph.custom(SwiGlu(self.shape.intermediate_size), [gate_up])
        return graph.linear(inner, linears[f"{name}.mlp.down_proj"], residual=hidden)

    def attention(self, layer: int) -> Attention:
        shape = self.shape
        return Attention(
            cache_id=layer,
            capacity=self.context_length,
            query_heads=shape.query_heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            causal=1,
            rope_theta=shape.rope_theta,
            scale=shape.head_dim**-0.5,
            cache_format=self.cache_format,
        )

    def norm(self, name: str) -> NormWeights:
        attributes = Norm(NormKind.RMS, self.shape.hidden_size, self.shape.epsilon)
        return NormWeights(attributes, (self.weights.tensor(f"{name}.weight"),))
