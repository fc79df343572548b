# SPDX-License-Identifier: Apache-2.0
"""vision.tflite: the sparse SigLIP encoder, pixel shuffle and connector as three signatures.

``encode``          all L blocks on the active tokens; keeps their deep residual h[L] - h[S] in a token cache.
``encode_shallow``  the first S blocks, then the kept deep residual in place of the others.
``encode_dense``    all blocks on all tokens, of which nothing is kept: the blocks share one cache of K,V.

The first two end the same way: the active tokens go into the cache of final hidden states, and all tokens leave through
the post layernorm, the pixel shuffle and the connector. Inputs: patches f32 (A, 3 P P), positions i32 (A,), and of
``encode_dense`` patches f32 (N, 3 P P) alone. Output: image_features f32 (I, D_text).
"""

from __future__ import annotations

import numpy as np

from custom_ops.spec import Activation, Attention, CacheFormat, Norm, NormKind, TokenGather, TokenScatter
from offline_compress.errors import ExportError
from offline_compress.export.graph_builder import DYNAMIC, GraphBuilder, ModelBuilder, NormWeights
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.module_names import (
    CONNECTOR,
    PATCH_EMBEDDING,
    POSITION_EMBEDDING,
    VISION,
    vision_block_names,
)
from offline_compress.export.weights import ModelWeights

# Token caches have ids of their own, behind those of the attention blocks.
FINAL_TOKENS = 1_000_000
DEEP_RESIDUAL = 1_000_001


def add_vision_signatures(
    model: ModelBuilder, weights: ModelWeights, shape: VisionShape, shallow_layers: int, cache_format: CacheFormat
) -> None:
    """Add ``encode``, ``encode_shallow`` and ``encode_dense`` to the model."""
    template = VisionTemplate(weights, shape, shallow_layers, cache_format)
    for name, build in (("encode", template.encode), ("encode_shallow", template.encode_shallow)):
        graph = model.graph(name)
        patches = graph.input("patches", (DYNAMIC, shape.patch_values), np.float32)
        positions = graph.input("positions", (DYNAMIC,), np.int32)
        graph.finish(image_features=build(graph, patches, positions))
    graph = model.graph("encode_dense")
    patches = graph.input("patches", (shape.tokens, shape.patch_values), np.float32)
    graph.finish(image_features=template.encode_dense(graph, patches))


class VisionTemplate:
    """Builds the graphs of one model; holds no state but what it is given."""

    def __init__(
        self, weights: ModelWeights, shape: VisionShape, shallow_layers: int, cache_format: CacheFormat
    ) -> None:
        self.weights, self.shape = weights, shape
        self.shallow_layers, self.cache_format = shallow_layers, cache_format
        # Patch i takes row i. transformers buckets fractional coordinates in float32 instead, which gives the same
        # for the grids of the SmolVLM family (14, 26, 27, 32) and misplaces patches of some others (19, 25, 29).
        self.position_table = weights.tensor(POSITION_EMBEDDING)
        if len(self.position_table) != shape.tokens:
            raise ExportError(f"{POSITION_EMBEDDING} has {len(self.position_table)} rows for {shape.tokens} patches")
        self.qkv = [weights.fused(vision_block_names(layer)[:3]) for layer in range(shape.layers)]

    def encode(self, graph: GraphBuilder, patches: int, positions: int) -> int:
        shallow = self.blocks(graph, self.embed(graph, patches, positions), positions, range(self.shallow_layers))
        deep = self.blocks(graph, shallow, positions, range(self.shallow_layers, self.shape.layers))
        residual = graph.writer.sub(deep, shallow)  # (A, D)
        graph.custom(TokenScatter(DEEP_RESIDUAL, self.shape.tokens, self.shape.hidden_size), [residual, positions])
        return self.features(graph, self.remembered(graph, deep, positions))

    def encode_shallow(self, graph: GraphBuilder, patches: int, positions: int) -> int:
        shallow = self.blocks(graph, self.embed(graph, patches, positions), positions, range(self.shallow_layers))
        gather = TokenGather(DEEP_RESIDUAL, self.shape.tokens, self.shape.hidden_size)
        residual = graph.custom(gather, [positions])  # (A, D)
        return self.features(graph, self.remembered(graph, graph.writer.add(shallow, residual), positions))

    def encode_dense(self, graph: GraphBuilder, patches: int) -> int:
        positions = graph.constant(np.arange(self.shape.tokens, dtype=np.int32))
        table = graph.constant(self.position_table)
        hidden = graph.linear(patches, self.weights.linears[PATCH_EMBEDDING], residual=table)
        for layer in range(self.shape.layers):
            hidden = self.block(graph, hidden, positions, layer, cache_id=self.shape.layers)
        return self.features(graph, hidden)

    def embed(self, graph: GraphBuilder, patches: int, positions: int) -> int:
        position = graph.gather_rows(self.position_table, positions)  # (A, D)
        return graph.linear(patches, self.weights.linears[PATCH_EMBEDDING], residual=position)

    def blocks(self, graph: GraphBuilder, hidden: int, positions: int, layers: range) -> int:
        for layer in layers:
            hidden = self.block(graph, hidden, positions, layer, cache_id=layer)
        return hidden

    def block(self, graph: GraphBuilder, hidden: int, positions: int, layer: int, cache_id: int) -> int:
        """Pre-norm block: attention against the cached K,V of all tokens, then the MLP; both add to ``hidden``."""
        name, heads, linears = f"{VISION}.encoder.layers.{layer}", self.shape.heads, self.weights.linears
        qkv = graph.linear(hidden, self.qkv[layer], norm=self.norm(f"{name}.layer_norm1"))
        attention = Attention(
            cache_id=cache_id,
            capacity=self.shape.tokens,
            query_heads=heads,
            kv_heads=heads,
            head_dim=self.shape.head_dim,
            causal=0,
            rope_theta=0.0,
            scale=self.shape.head_dim**-0.5,
            cache_format=self.cache_format,
        )
        attended = graph.custom(attention, [qkv, positions])
        hidden = graph.linear(attended, linears[f"{name}.self_attn.out_proj"], residual=hidden)
        norm = self.norm(f"{name}.layer_norm2")
        inner = graph.linear(hidden, linears[f"{name}.mlp.fc1"], Activation.GELU_TANH, norm=norm)
        return graph.linear(inner, linears[f"{name}.mlp.fc2"], residual=hidden)

    def remembered(self, graph: GraphBuilder, hidden: int, positions: int) -> int:
        """Final hidden states of the active tokens (A, D) -> of all tokens (N, D)."""
        scatter = TokenScatter(FINAL_TOKENS, self.shape.tokens, self.shape.hidden_size)
        return graph.custom(scatter, [hidden, positions])

    def features(self, graph: GraphBuilder, hidden: int) -> int:
        """All tokens (N, D) -> image features (I, D_text)."""
        tokens = graph.norm(hidden, self.norm(f"{VISION}.post_layernorm"))
        shuffled = graph.gather_rows(tokens, pixel_shuffle_rows(self.shape.grid, self.shape.scale_factor))
        width = self.shape.hidden_size * self.shape.scale_factor**2
        squares = graph.writer.reshape(shuffled, (self.shape.image_tokens, width))
        return graph.linear(squares, self.weights.linears[CONNECTOR])

    def norm(self, name: str) -> NormWeights:
        attributes = Norm(NormKind.LAYER, self.shape.hidden_size, self.shape.epsilon)
        return NormWeights(attributes, (self.weights.tensor(f"{name}.weight"), self.weights.tensor(f"{name}.bias")))


def pixel_shuffle_rows(grid: int, factor: int) -> np.ndarray:
    """Token indices i32 (N,) in the order in which the connector concatenates them.

    Row (R, C) of the connector's input is the tokens of the factor x factor square at (R, C), row by row:
    transformers' SmolVLMConnector.pixel_shuffle written as one gather and a reshape.
    """
    index = np.arange(grid * grid, dtype=np.int32).reshape(grid // factor, factor, grid // factor, factor)
    return np.ascontiguousarray(index.transpose(0, 2, 1, 3).reshape(-1))
