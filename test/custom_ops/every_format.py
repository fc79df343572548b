# SPDX-License-Identifier: Apache-2.0
"""A model with a Linear of every weight format and grouping, and attention with every cache, to be damaged."""

from __future__ import annotations

from itertools import product

import numpy as np

from custom_ops.packing import LIMITS, Groups, group_count, pack
from custom_ops.spec import (
    GROUPED,
    Activation,
    Attention,
    CacheFormat,
    Embedding,
    Linear,
    Norm,
    NormKind,
    Sample,
    SwiGlu,
    TokenGather,
    TokenScatter,
    WeightFormat,
)
from custom_ops.tflite_writer import GraphWriter, ModelWriter

WIDTH, VOCABULARY, CAPACITY, IMAGE_TOKEN = 72, 40, 21, 3


def write_every_format(path, seed: int = 0) -> None:
    """Signatures "decode" (all formats of weights) and one for each cache, causal and not."""
    writer, rng = ModelWriter("every format"), np.random.default_rng(seed)
    decoder(writer.subgraph("decode"), rng)
    for cache, causal in product(CacheFormat, (0, 1)):
        name = f"attend_{cache.name.lower()}_{causal}"
        attend(
            writer.subgraph(name),
            name,
            Attention(10 + 2 * cache + causal, CAPACITY, 6, 2, 12, causal, 1e4 * causal, 0.3, cache),
        )
    writer.save(path)


def decoder(graph: GraphWriter, rng: np.random.Generator) -> None:
    ids, positions = graph.input("ids", (-1,), np.int32), graph.input("positions", (-1,), np.int32)
    image = graph.input("image", (-1, WIDTH))
    temperature, choice = graph.input("temperature", (1,)), graph.input("choice", (2,), np.int32)
    table = [
        graph.constant(f"table{i}", array) for i, array in enumerate(matrix(rng, WeightFormat.INT8, VOCABULARY, WIDTH))
    ]
    embedding = Embedding(WeightFormat.INT8, VOCABULARY, WIDTH, IMAGE_TOKEN, 1)
    x = graph.custom(embedding, [ids, *table, image], "embedded", (-1, WIDTH))
    for weight_format in LIMITS:
        for size, has_zero in [(0, 0)] + [(32, 0), (64, 1)] * (weight_format in GROUPED):
            x = linear(graph, rng, x, Linear(weight_format, WIDTH, WIDTH, group_size=size, has_zero=has_zero))
    x = linear(
        graph,
        rng,
        x,
        Linear(WeightFormat.TERNARY, WIDTH, 2 * WIDTH, Activation.SILU, 1, norm_kind=NormKind.LAYER, norm_epsilon=1e-5),
    )
    x = graph.custom(SwiGlu(WIDTH), [x], "gated", (-1, WIDTH))
    x = graph.custom(TokenScatter(1, CAPACITY, WIDTH), [x, positions], "kept", (CAPACITY, WIDTH))
    x = graph.custom(TokenGather(1, CAPACITY, WIDTH), [positions], "gathered", (-1, WIDTH))
    x = graph.custom(
        Norm(NormKind.RMS, WIDTH, 1e-5), [x, graph.constant("norm", np.ones(WIDTH, np.float32))], "normed", (-1, WIDTH)
    )
    logits = linear(graph, rng, x, Linear(WeightFormat.INT8, WIDTH, VOCABULARY))
    y = graph.custom(Sample(VOCABULARY), [logits, positions, temperature, choice], "next", (-1, 2))
    inputs = {"ids": ids, "positions": positions, "image": image, "temperature": temperature, "choice": choice}
    graph.signature("decode", inputs, {"next": y})


def attend(graph: GraphWriter, name: str, attributes: Attention) -> None:
    row = (attributes.query_heads + 2 * attributes.kv_heads) * attributes.head_dim
    inputs = {"qkv": graph.input("qkv", (-1, row)), "positions": graph.input("positions", (-1,), np.int32)}
    width = attributes.query_heads * attributes.head_dim
    graph.signature(name, inputs, {"y": graph.custom(attributes, list(inputs.values()), "attended", (-1, width))})


def linear(graph: GraphWriter, rng: np.random.Generator, x: int, attributes: Linear) -> int:
    shape = attributes.out_features, attributes.in_features
    arrays = [*matrix(rng, attributes.weight_format, *shape)]
    if attributes.group_size:
        count = group_count(attributes.in_features, attributes.group_size)
        zero = np.zeros((shape[0], count), np.int8) if attributes.has_zero else None
        arrays += Groups(attributes.group_size, np.ones((shape[0], count), np.float16), zero).packed()
    arrays += [np.ones(shape[0], np.float32)] * attributes.has_bias
    arrays += [
        np.ones(shape[1], np.float32) for _ in range({0: 0, NormKind.RMS: 1, NormKind.LAYER: 2}[attributes.norm_kind])
    ]
    tensors = [graph.constant(f"c{i}", array) for i, array in enumerate(arrays)]
    return graph.custom(attributes, [x, *tensors], "linear", (-1, shape[0]))


def matrix(rng: np.random.Generator, weight_format: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Packed codes and the scale of each row."""
    low, high = LIMITS[WeightFormat(weight_format)]
    codes = rng.integers(low, high + 1, (rows, columns)).astype(np.int8)
    if weight_format == WeightFormat.BINARY:
        codes = np.where(codes < 0, -1, 1).astype(np.int8)
    return pack(codes, WeightFormat(weight_format)).data, rng.uniform(0.1, 1, rows).astype(np.float32)
