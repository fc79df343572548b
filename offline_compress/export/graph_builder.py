# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the graph templates: Linear, our operators, and the few builtins between them.

A tensor of a graph is its number in that graph. Every constant is stored once in the file, however many
signatures use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_ops.packing import pack, packed_bytes
from custom_ops.spec import (
    Activation,
    Attention,
    Attributes,
    Embedding,
    Linear,
    Norm,
    Sample,
    SwiGlu,
    TokenGather,
    TokenScatter,
    WeightFormat,
)
from custom_ops.tflite_writer import Constant, GraphWriter, LazyConstant, ModelWriter
from offline_compress.errors import ExportError
from offline_compress.export.weights import LinearWeights

DYNAMIC = -1  # a number of rows that is known at run time


@dataclass(frozen=True)
class NormWeights:
    """A Norm and its arrays: weight (D,), and bias (D,) for LAYER."""

    attributes: Norm
    arrays: tuple[np.ndarray, ...]


class ModelBuilder:
    """Collects the graphs of one .tflite. Every matrix is packed once, while the file is written.

    ``dense_ternary``: ternary matrices take 1.6 bits a weight, not 2.
    """

    def __init__(self, description: str, dense_ternary: bool = False) -> None:
        self.writer = ModelWriter(description)
        self.dense_ternary = dense_ternary
        self.packed: dict[int, tuple[LinearWeights, list[Constant]]] = {}  # by id(); the weights are held, so it stays

    def graph(self, signature: str) -> GraphBuilder:
        return GraphBuilder(self, self.writer.subgraph(signature))

    def pack(self, weights: LinearWeights) -> list[Constant]:
        """The constants of a Linear: codes (packed, or float32 (N, K)), scale, those of its groups, bias. The same
        objects for the same weights."""
        if id(weights) not in self.packed:
            constants = [packed_later(weights, self.stored_format(weights)), weights.scale]
            constants += [] if weights.groups is None else weights.groups.packed()
            constants += [] if weights.bias is None else [weights.bias]
            self.packed[id(weights)] = (weights, constants)
        return self.packed[id(weights)][1]

    def stored_format(self, weights: LinearWeights) -> WeightFormat:
        dense = self.dense_ternary and weights.format == WeightFormat.TERNARY
        return WeightFormat.TERNARY_DENSE if dense else weights.format

    def table(self, weights: LinearWeights) -> list[Constant]:
        """The constants of an Embedding: codes as for a Linear, and scale."""
        return self.pack(weights)[:2]

    def save(self, path: Path) -> None:
        self.writer.save(path)


def packed_later(weights: LinearWeights, stored: WeightFormat) -> LazyConstant:
    shape = (weights.out_features, weights.in_features)
    if stored == WeightFormat.FLOAT32:
        return LazyConstant(shape, np.float32, lambda: weights.codes)
    return LazyConstant((packed_bytes(stored, *shape),), np.uint8, lambda: pack(weights.codes, stored).data)


class GraphBuilder:
    """One signature. Methods add operators and return the tensor that they write."""

    def __init__(self, model: ModelBuilder, writer: GraphWriter) -> None:
        self.model, self.writer = model, writer
        self.inputs: dict[str, int] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: type) -> int:
        self.inputs[name] = self.writer.input(name, shape, dtype)
        return self.inputs[name]

    def finish(self, **outputs: int) -> None:
        """Close the graph as the signature of its name."""
        self.writer.signature(self.writer.graph.name, self.inputs, outputs)

    def constant(self, array: Constant, name: str = "constant") -> int:
        return self.writer.constant(name, array)

    def norm(self, x: int, norm: NormWeights) -> int:
        return self.custom(norm.attributes, [x, *norm.arrays])

    def linear(
        self,
        x: int,
        weights: LinearWeights,
        activation: Activation = Activation.NONE,
        residual: int | None = None,
        norm: NormWeights | None = None,
    ) -> int:
        """``activation(norm(x) W^T + bias) + residual``: our operator, or norm and builtins where weights are float."""
        rows, width = self.writer.shapes[x]
        if width != weights.in_features:
            raise ExportError(f"a matrix of {weights.in_features} inputs is given {width}", "check config.json")
        if weights.format == WeightFormat.FLOAT32:
            return self.float_linear(x if norm is None else self.norm(x, norm), weights, activation, residual)
        attributes = Linear(
            self.model.stored_format(weights),
            weights.in_features,
            weights.out_features,
            activation,
            int(weights.bias is not None),
            int(residual is not None),
            0 if weights.groups is None else weights.groups.size,
            int(weights.groups is not None and weights.groups.zero is not None),
            0 if norm is None else norm.attributes.kind,
            0.0 if norm is None else norm.attributes.epsilon,
        )
        inputs = [x, *map(self.constant, self.model.pack(weights)), *([] if residual is None else [residual])]
        inputs += [] if norm is None else map(self.constant, norm.arrays)
        return self.writer.custom(attributes, inputs, "linear", (rows, weights.out_features))

    def float_linear(self, x: int, weights: LinearWeights, activation: Activation, residual: int | None) -> int:
        bias = None if weights.bias is None else self.constant(weights.bias)
        y = self.writer.fully_connected(x, self.constant(self.model.pack(weights)[0]), bias)
        if activation == Activation.GELU_TANH:
            options = self.writer.schema_options("GeluOptions", approximate=True)
            y = self.writer.builtin("GELU", [y], "gelu", self.writer.shapes[y], options)
        elif activation != Activation.NONE:
            raise ExportError(f"no builtin for {activation.name}", "use quantised weights here")
        return y if residual is None else self.writer.add(y, residual)

    def custom(self, attributes: Attributes, inputs: Sequence[int | np.ndarray]) -> int:
        """One of our operators but Linear; NumPy arrays become constants."""
        tensors = [item if isinstance(item, int) else self.constant(item) for item in inputs]
        shape = output_shape(attributes, self.writer.shapes[tensors[0]][0])
        return self.writer.custom(attributes, tensors, attributes.OP, shape)

    def gather_rows(self, table: int | np.ndarray, rows: int | np.ndarray) -> int:
        """``table[rows]``, (rows, D)."""
        tensors = (item if isinstance(item, int) else self.constant(item) for item in (table, rows))
        return self.writer.gather(*tensors)


def output_shape(attributes: Attributes, rows: int) -> tuple[int, int]:
    """Shape of an operator's only output; ``rows`` those of its first input."""
    if isinstance(attributes, Attention):
        return (rows, attributes.query_heads * attributes.head_dim)
    if isinstance(attributes, Sample):
        return (rows, 2)
    if isinstance(attributes, TokenScatter):
        return (attributes.capacity, attributes.width)
    if isinstance(attributes, (Norm, Embedding, SwiGlu, TokenGather)):
        return (rows, attributes.width)
    raise ExportError(f"no shape rule for {attributes.OP}", "add one")
