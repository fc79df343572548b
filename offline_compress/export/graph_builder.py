# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the graph templates: Linear, our operators, and the few builtins between them.

Every constant is stored once in the file, however many signatures use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_ops.packing import pack
from custom_ops.spec import (
    Activation,
    Attention,
    Attributes,
    Embedding,
    Linear,
    Norm,
    SwiGlu,
    TokenGather,
    TokenScatter,
    WeightFormat,
)
from custom_ops.tflite_writer import GraphWriter, ModelWriter
from offline_compress.export.errors import ExportError
from offline_compress.export.weights import LinearWeights


@dataclass(frozen=True)
class Value:
    """A tensor of one graph. ``shape`` has None where the number of rows is known only at run time."""

    index: int
    shape: tuple[int | None, ...]
    dtype: type


class ModelBuilder:
    """Collects the graphs of one .tflite and packs every matrix once."""

    def __init__(self, description: str) -> None:
        self.writer = ModelWriter(description)
        # Keyed by identity; the key's object is kept so that its id stays taken.
        self.packed: dict[int, tuple[LinearWeights, np.ndarray]] = {}

    def graph(self, signature: str) -> GraphBuilder:
        return GraphBuilder(self, self.writer.graph(signature))

    def pack(self, weights: LinearWeights) -> np.ndarray:
        """u8 as in packing.py; float32 (N, K) for FLOAT32. The same object for the same weights."""
        if weights.format == WeightFormat.FLOAT32:
            return weights.codes
        if id(weights) not in self.packed:
            self.packed[id(weights)] = (weights, pack(weights.codes, weights.format))
        return self.packed[id(weights)][1]

    def save(self, path: Path) -> None:
        self.writer.save(path)


class GraphBuilder:
    """One signature. Methods add operators and return the tensor that they write."""

    def __init__(self, model: ModelBuilder, writer: GraphWriter) -> None:
        self.model, self.writer = model, writer

    def input(self, name: str, shape: tuple[int | None, ...], dtype: type) -> Value:
        return Value(self.writer.input(name, shape, dtype), shape, dtype)

    def output(self, name: str, value: Value) -> None:
        self.writer.output(name, value.index)

    def constant(self, array: np.ndarray) -> Value:
        array = np.ascontiguousarray(array)
        return Value(self.writer.constant(array), array.shape, array.dtype.type)

    def linear(
        self, x: Value, weights: LinearWeights, activation: Activation = Activation.NONE, residual: Value | None = None
    ) -> Value:
        """``activation(x W^T + bias) + residual``: our operator, or builtins where the weights are float."""
        if x.shape[-1] != weights.in_features:
            raise ExportError(f"a matrix of {weights.in_features} inputs is given {x.shape[-1]}", "check config.json")
        if weights.format == WeightFormat.FLOAT32:
            return self.float_linear(x, weights, activation, residual)
        inputs: list[Value | np.ndarray] = [x, self.model.pack(weights), weights.scale]
        inputs += [extra for extra in (weights.bias, residual) if extra is not None]
        attributes = Linear(
            weights.format,
            weights.in_features,
            weights.out_features,
            activation,
            int(weights.bias is not None),
            int(residual is not None),
        )
        return self.custom(attributes, inputs)

    def float_linear(
        self, x: Value, weights: LinearWeights, activation: Activation, residual: Value | None
    ) -> Value:
        inputs = [x, self.constant(weights.codes)]
        if weights.bias is not None:
            inputs.append(self.constant(weights.bias))
        y = self.builtin("FULLY_CONNECTED", inputs, (x.shape[0], weights.out_features))
        if activation == Activation.GELU_TANH:
            y = self.builtin("GELU", [y], y.shape, approximate=True)
        elif activation != Activation.NONE:
            raise ExportError(f"no builtin for {activation.name}", "use quantised weights here")
        return y if residual is None else self.add(y, residual)

    def table(self, weights: LinearWeights) -> Value:
        """The weights as an operator reads them, for the embedding that shares them with the head."""
        return self.constant(self.model.pack(weights))

    def add(self, a: Value, b: Value) -> Value:
        return self.builtin("ADD", [a, b], a.shape)

    def subtract(self, a: Value, b: Value) -> Value:
        return self.builtin("SUB", [a, b], a.shape)

    def gather_rows(self, table: Value | np.ndarray, rows: Value | np.ndarray) -> Value:
        """``table[rows]``, (rows, D)."""
        table, rows = self.value(table), self.value(rows)
        return self.builtin("GATHER", [table, rows], (rows.shape[0], *table.shape[1:]), axis=0)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        return self.builtin("RESHAPE", [x, self.constant(np.array(shape, np.int32))], shape)

    def last_row(self, x: Value) -> Value:
        """(rows, D) -> (1, D)."""
        # x[-1:, :]; bit i of end_mask: the end of axis i is open
        begin, end, strides = ([-1, 0], [0, 0], [1, 1])
        bounds = [self.constant(np.array(values, np.int32)) for values in (begin, end, strides)]
        return self.builtin("STRIDED_SLICE", [x, *bounds], (1, *x.shape[1:]), end_mask=3)

    def builtin(self, name: str, inputs: Sequence[Value], shape: tuple[int | None, ...], **options: object) -> Value:
        index = self.writer.builtin(name, [value.index for value in inputs], shape, inputs[0].dtype, **options)
        return Value(index, shape, inputs[0].dtype)

    def custom(self, attributes: Attributes, inputs: Sequence[Value | np.ndarray]) -> Value:
        """One of our operators; NumPy arrays become constants."""
        values = [self.value(item) for item in inputs]
        shape = output_shape(attributes, values[0].shape[0])
        return Value(self.writer.custom(attributes, [value.index for value in values], shape), shape, np.float32)

    def value(self, item: Value | np.ndarray) -> Value:
        return item if isinstance(item, Value) else self.constant(item)


def output_shape(attributes: Attributes, rows: int | None) -> tuple[int | None, int]:
    """Shape of an operator's only output; ``rows`` those of its first input."""
    if isinstance(attributes, Linear):
        return (rows, attributes.out_features)
    if isinstance(attributes, Attention):
        return (rows, attributes.query_heads * attributes.head_dim)
    if isinstance(attributes, TokenScatter):
        return (attributes.capacity, attributes.width)
    if isinstance(attributes, (Norm, Embedding, SwiGlu, TokenGather)):
        return (rows, attributes.width)
    raise ExportError(f"no shape rule for {attributes.OP}", "add one")
