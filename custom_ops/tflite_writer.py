# SPDX-License-Identifier: Apache-2.0
"""Writes .tflite files from NumPy arrays: builtin operators that our graphs need, and our own as custom ones.

Layout of a file: the flatbuffer first, then every constant at a multiple of 64 bytes (``Buffer.offset``), so that
the runtime maps the weights and kernels read them in place. Constants given as the same array object are stored
once, also when several subgraphs use them. A `LazyConstant` is made when the file is written, one after the other,
so that a model need not fit in memory. `model_file` reads what is written here and refuses everything else.

    writer = ModelWriter("two tokens in, two out")
    graph = writer.subgraph("encode")
    x = graph.input("x", (-1, 192))                                  # -1: dynamic
    y = graph.custom(Norm(NormKind.RMS, 192, 1e-5), [x, graph.constant("weight", w)], "normed", (-1, 192))
    graph.signature("encode", {"x": x}, {"y": y})
    writer.save("model.tflite")
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import flatbuffers
import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.litert import load_schema
from custom_ops.model_file import FILE_IDENTIFIER, TENSOR_TYPES
from custom_ops.spec import Attributes

ALIGNMENT = 64  # bytes, of each constant in the file
CUSTOM_VERSION = 1
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LazyConstant:
    """A constant whose shape and type are known now and whose values ``make()`` gives later, each time the same."""

    shape: Shape
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

    def bytes(self) -> np.ndarray:
        """uint8, flat. Raises OperatorError where ``make`` gives something else than announced."""
        array = self.make()
        if array.shape != tuple(self.shape) or array.dtype != self.dtype:
            raise OperatorError(f"a constant is {array.dtype} {array.shape}, announced was {self.dtype} {self.shape}")
        return flat_bytes(array)


Constant = np.ndarray | LazyConstant


class ModelWriter:
    """One .tflite file: subgraphs that share constants."""

    def __init__(self, description: str) -> None:
        self.schema = load_schema()
        self.model = self.schema.ModelT()
        self.model.version = 3
        self.model.description = description
        self.model.buffers = [self.schema.BufferT()]  # buffer 0 is "no data" by convention
        self.model.subgraphs, self.model.operatorCodes, self.model.signatureDefs = [], [], []
        self.constants: list[np.ndarray | LazyConstant] = []  # of buffers 1, 2, ...; arrays as flat bytes
        self.buffer_of: dict[int, tuple[int, Constant]] = {}  # by id(); holds the array so that the id stays its
        self.opcode_of: dict[tuple[int, str | None, int], int] = {}

    def buffer(self, array: Constant) -> int:
        """The buffer of a constant; the same array object gives the same buffer. Raises OperatorError if empty."""
        if id(array) in self.buffer_of:
            return self.buffer_of[id(array)][0]
        if array.size == 0:
            raise OperatorError("a constant of a model has no elements", "leave the tensor out")
        self.constants.append(array if isinstance(array, LazyConstant) else flat_bytes(array))
        self.model.buffers.append(self.schema.BufferT())
        self.buffer_of[id(array)] = (len(self.constants), array)
        return len(self.constants)

    def subgraph(self, name: str) -> GraphWriter:
        return GraphWriter(self, name)

    def opcode(self, builtin: int, custom_name: str | None = None, version: int = 1) -> int:
        """Index of an operator code, added at its first use."""
        key = (builtin, custom_name, version)
        if key not in self.opcode_of:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.customCode, code.version = builtin, custom_name, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            self.opcode_of[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self.opcode_of[key]

    def save(self, path: Path | str) -> int:
        """Write the file atomically; returns its size in bytes."""
        path = Path(path)
        descriptor, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                size = self.write_to(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the bundle from other users
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return size

    def content(self) -> bytes:
        """The file's bytes, for a runtime that takes a model from memory."""
        file = io.BytesIO()
        self.write_to(file)
        return file.getvalue()

    def write_to(self, file) -> int:
        header, offsets, size = self.lay_out()
        file.write(header)
        for offset, constant in zip(offsets, self.constants, strict=True):
            file.write(b"\0" * (offset - file.tell()))
            file.write((constant.bytes() if isinstance(constant, LazyConstant) else constant).data)
        file.write(b"\0" * (size - file.tell()))
        return size

    def lay_out(self) -> tuple[bytes, list[int], int]:
        """The flatbuffer, the offset of each constant, and the size of the file.

        Packed twice: offsets are fixed-width, so the flatbuffer's size does not depend on them once they are not 0.
        """
        buffers = self.model.buffers[1:]
        for buffer, constant in zip(buffers, self.constants, strict=True):
            buffer.offset, buffer.size = 2, constant.nbytes  # 0 and 1 mean "not external"
        position = aligned(len(self.pack()))
        offsets = []
        for buffer, constant in zip(buffers, self.constants, strict=True):
            buffer.offset = position
            offsets.append(position)
            position = aligned(position + constant.nbytes)
        return self.pack(), offsets, position

    def pack(self) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        return bytes(builder.Output())


def flat_bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class GraphWriter:
    """One subgraph. Methods take and return tensor ids; ``shapes[id]`` is a tensor's shape, -1 where dynamic."""

    def __init__(self, writer: ModelWriter, name: str) -> None:
        self.writer, self.schema = writer, writer.schema
        self.graph = writer.schema.SubGraphT()
        self.graph.name = name
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.shapes: list[Shape] = []
        self.constant_of: dict[int, int] = {}  # tensor by buffer: a constant used twice in a graph is one tensor
        self.index = len(writer.model.subgraphs)
        writer.model.subgraphs.append(self.graph)

    def input(self, name: str, shape: Sequence[int], dtype=np.float32) -> int:
        """An input of the graph; -1 marks dynamic dimensions."""
        tensor = self.tensor(name, shape, dtype)
        self.graph.inputs.append(tensor)
        return tensor

    def constant(self, name: str, array: Constant) -> int:
        """A constant; its bytes are shared with every tensor made from the same array object."""
        buffer = self.writer.buffer(array)
        if buffer not in self.constant_of:
            self.constant_of[buffer] = self.tensor(name, array.shape, array.dtype, buffer)
        return self.constant_of[buffer]

    def tensor(self, name: str, shape: Sequence[int], dtype, buffer: int = 0) -> int:
        dtype = np.dtype(dtype).name
        if dtype not in TENSOR_TYPES:
            raise OperatorError(f"tensor {name}: type {dtype} cannot be written", f"use {', '.join(TENSOR_TYPES)}")
        shape = tuple(int(size) for size in shape)
        tensor = self.schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, TENSOR_TYPES[dtype], buffer
        tensor.shape = [max(size, 1) for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        self.graph.tensors.append(tensor)
        self.shapes.append(shape)
        return len(self.graph.tensors) - 1

    def custom(
        self, attributes: Attributes, inputs: Sequence[int], output_name: str, output_shape: Sequence[int]
    ) -> int:
        """One of our operators; the delegate sizes the output, ``output_shape`` says what is known now."""
        output = self.tensor(output_name, output_shape, np.float32)
        code = self.writer.opcode(self.schema.BuiltinOperator.CUSTOM, attributes.OP, CUSTOM_VERSION)
        operator = self.operator(code, inputs, output)
        operator.customOptions = np.frombuffer(attributes.to_bytes(), np.uint8)
        operator.customOptionsFormat = 0
        return output

    def add(self, a: int, b: int, name: str = "sum") -> int:
        return self.elementwise("ADD", "AddOptions", a, b, name)

    def sub(self, a: int, b: int, name: str = "difference") -> int:
        return self.elementwise("SUB", "SubOptions", a, b, name)

    def mul(self, a: int, b: int, name: str = "product") -> int:
        return self.elementwise("MUL", "MulOptions", a, b, name)

    def elementwise(self, builtin: str, options: str, a: int, b: int, name: str) -> int:
        shape = broadcast(self.shapes[a], self.shapes[b])
        return self.builtin(builtin, [a, b], name, shape, self.schema_options(options))

    def gather(self, params: int, indices: int, name: str = "gathered") -> int:
        """Rows ``indices`` (any shape) of ``params``."""
        shape = (*self.shapes[indices], *self.shapes[params][1:])
        options = self.schema_options("GatherOptions", axis=0, batchDims=0)
        return self.builtin("GATHER", [params, indices], name, shape, options)

    def reshape(self, x: int, shape: Sequence[int], name: str = "reshaped") -> int:
        """At most one -1, which the runtime works out."""
        wanted = np.array(shape, np.int32)
        options = self.schema_options("ReshapeOptions", newShape=list(wanted))
        inputs = [x, self.constant(f"{name}_shape", wanted)]
        return self.builtin("RESHAPE", inputs, name, resolve(self.shapes[x], shape), options)

    def fully_connected(
        self, x: int, w: int, bias: int | None = None, keep_num_dims: bool = True, name: str = "projected"
    ) -> int:
        """``x W^T + bias`` in float32; x (..., K), w (N, K), bias (N,)."""
        inputs = [x, w, -1 if bias is None else bias]
        out_features = self.shapes[w][0]
        leading = self.shapes[x][:-1] if keep_num_dims else resolve(self.shapes[x], (-1, self.shapes[x][-1]))[:1]
        options = self.schema_options("FullyConnectedOptions", keepNumDims=keep_num_dims)
        return self.builtin("FULLY_CONNECTED", inputs, name, (*leading, out_features), options)

    def last_row(self, x: int, name: str = "last_row") -> int:
        """(rows, D) -> (1, D)."""
        options = self.schema_options("StridedSliceOptions", beginMask=0b10, endMask=0b11)
        bounds = {"begin": (-1, 0), "end": (0, 0), "strides": (1, 1)}
        inputs = [x] + [self.constant(f"{name}_{key}", np.array(value, np.int32)) for key, value in bounds.items()]
        return self.builtin("STRIDED_SLICE", inputs, name, (1, self.shapes[x][1]), options)

    def mean_row(self, x: int, name: str = "mean_row") -> int:
        """(rows, D) -> (1, D): the mean of all rows."""
        inputs = [x, self.constant(f"{name}_axes", np.array([0], np.int32))]
        return self.builtin(
            "MEAN", inputs, name, (1, self.shapes[x][1]), self.schema_options("ReducerOptions", keepDims=True)
        )

    def builtin(self, builtin: str, inputs: Sequence[int], name: str, shape: Shape, options) -> int:
        """Any builtin operator with one float32 output; ``options`` from ``schema_options``."""
        output = self.tensor(name, shape, np.float32)
        operator = self.operator(self.writer.opcode(getattr(self.schema.BuiltinOperator, builtin)), inputs, output)
        operator.builtinOptionsType, operator.builtinOptions = options
        return output

    def schema_options(self, kind: str, **fields) -> tuple[int, object]:
        """The options of a builtin operator as (union tag, object)."""
        options = getattr(self.schema, f"{kind}T")()
        for field, value in fields.items():
            setattr(options, field, value)
        return getattr(self.schema.BuiltinOptions, kind), options

    def operator(self, opcode: int, inputs: Sequence[int], output: int):
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = opcode, list(inputs), [output]
        self.graph.operators.append(operator)
        return operator

    def signature(self, key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Name this graph's inputs and outputs; they are called by these names through ``key``."""
        definition = self.schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = key, self.index
        definition.inputs = [self.named(name, tensor) for name, tensor in inputs.items()]
        definition.outputs = [self.named(name, tensor) for name, tensor in outputs.items()]
        self.graph.outputs = list(outputs.values())
        self.writer.model.signatureDefs.append(definition)

    def named(self, name: str, tensor: int):
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor
        return entry


def broadcast(a: Shape, b: Shape) -> Shape:
    """NumPy's broadcasting with -1 for sizes not known yet."""
    length = max(len(a), len(b))
    a, b = (1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def resolve(shape: Shape, wanted: Sequence[int]) -> Shape:
    """``wanted`` with its -1 worked out where ``shape`` is static."""
    if -1 not in wanted or -1 in shape:
        return tuple(wanted)
    known = -int(np.prod(wanted, dtype=np.int64))
    return tuple(int(np.prod(shape, dtype=np.int64)) // known if size == -1 else size for size in wanted)
