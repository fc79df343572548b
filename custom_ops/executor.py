# SPDX-License-Identifier: Apache-2.0
"""Runs our .tflite files in NumPy: the oracle of the tests, and the last resort where the operator library cannot load.

Knows our custom operators (reference.py) and the builtin ones that our exporter writes. The interface is that of the
TFLite interpreter's signatures::

    interpreter = NumpyInterpreter("vision.tflite")
    features = interpreter.get_signature_runner("encode")(patches=patches, positions=positions)["image_features"]
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_ops import reference, spec
from custom_ops.builtin_linear import BuiltinLinears
from custom_ops.errors import OperatorError
from custom_ops.litert import load_schema
from custom_ops.packing import Groups, PackedWeights, group_count, unpack, unpack_groups
from custom_ops.spec import NormKind, WeightFormat
from custom_ops.tflite_writer import FILE_IDENTIFIER, TENSOR_TYPES

DTYPES = {code: np.dtype(name) for name, code in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class Operation:
    """One node: input and output tensor ids (-1: absent), and the function from arrays to an array."""

    name: str
    inputs: tuple[int, ...]
    output: int
    run: Callable[..., np.ndarray]


@dataclass(frozen=True)
class Subgraph:
    constants: dict[int, np.ndarray]
    dtypes: dict[int, np.dtype]
    names: dict[int, str]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Signature:
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class Caches:
    """The attention and token caches of one interpreter, by id, and LiteRT's own matrices where it uses them."""

    def __init__(self, builtins: BuiltinLinears | None = None) -> None:
        self.builtins = builtins
        self.attention: dict[int, reference.AttentionCache] = {}
        self.tokens: dict[int, reference.TokenCache] = {}

    def of_attention(self, attributes: spec.Attention) -> reference.AttentionCache:
        return self.attention.setdefault(attributes.cache_id, reference.AttentionCache(attributes))

    def of_tokens(self, attributes: spec.TokenScatter | spec.TokenGather) -> reference.TokenCache:
        return self.tokens.setdefault(attributes.cache_id, reference.TokenCache(attributes.capacity, attributes.width))


class NumpyInterpreter:
    """A model in NumPy. Raises OperatorError for a file that is not ours or an operator that it does not know.

    ``builtin_linear``: matrices are multiplied by LiteRT's own FULLY_CONNECTED where that holds their format, which is
    faster; results then differ by the rounding of activations (builtin_linear.py).
    """

    def __init__(self, model_path: Path | str, caches: Caches | None = None, builtin_linear: bool = False) -> None:
        self.path = Path(model_path)
        self.caches = caches or Caches(BuiltinLinears() if builtin_linear else None)
        data, model = read_model(self.path)
        codes = [(code.builtinCode, text(code.customCode)) for code in model.operatorCodes]
        self.subgraphs = [load_subgraph(graph, codes, model.buffers, data, self.caches) for graph in model.subgraphs]
        self.signatures = {
            text(definition.signatureKey): load_signature(definition) for definition in model.signatureDefs
        }

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        return {
            key: {"inputs": list(signature.inputs), "outputs": list(signature.outputs)}
            for key, signature in self.signatures.items()
        }

    def get_signature_runner(self, key: str) -> Callable[..., dict[str, np.ndarray]]:
        if key not in self.signatures:
            raise OperatorError(f"{self.path}: no signature {key}", f"it has {', '.join(self.signatures)}")
        signature = self.signatures[key]
        return lambda **inputs: self.run(signature, inputs)

    def run(self, signature: Signature, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if set(inputs) != set(signature.inputs):
            raise OperatorError(f"{self.path}: inputs {sorted(inputs)}, expected {sorted(signature.inputs)}")
        graph = self.subgraphs[signature.subgraph]
        values = dict(graph.constants)
        for name, tensor in signature.inputs.items():
            values[tensor] = np.asarray(inputs[name], graph.dtypes[tensor])
        for operation in graph.operations:
            arrays = [None if tensor < 0 else values[tensor] for tensor in operation.inputs]
            try:
                values[operation.output] = operation.run(*arrays)
            except OperatorError as error:
                node = f"{operation.name} (output '{graph.names[operation.output]}')"
                raise OperatorError(f"{node}: {error.what}", error.remedy) from error
        return {name: np.array(values[tensor]) for name, tensor in signature.outputs.items()}


def read_model(path: Path):
    """The mapped bytes and the parsed flatbuffer (ModelT)."""
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise OperatorError(f"{path}: cannot be read ({error})", spec.REEXPORT) from error
    if data[4:8].tobytes() != FILE_IDENTIFIER:
        raise OperatorError(f"{path}: not a .tflite file", spec.REEXPORT)
    try:
        return data, load_schema().ModelT.InitFromPackedBuf(data, 0)
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise OperatorError(f"{path}: damaged .tflite file ({error})", spec.REEXPORT) from error


def text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def load_signature(definition) -> Signature:
    inputs = {text(entry.name): entry.tensorIndex for entry in definition.inputs}
    outputs = {text(entry.name): entry.tensorIndex for entry in definition.outputs}
    return Signature(definition.subgraphIndex, inputs, outputs)


def load_subgraph(graph, codes: list[tuple[int, str]], buffers, data: np.ndarray, caches: Caches) -> Subgraph:
    constants = {}
    for index, tensor in enumerate(graph.tensors):
        raw = buffer_bytes(buffers[tensor.buffer], data)
        if raw is not None:
            constants[index] = raw.view(DTYPES[tensor.type]).reshape([] if tensor.shape is None else tensor.shape)
    operations = tuple(load_operation(operator, codes, constants, caches) for operator in graph.operators)
    dtypes = {index: DTYPES[tensor.type] for index, tensor in enumerate(graph.tensors)}
    names = {index: text(tensor.name) for index, tensor in enumerate(graph.tensors)}
    return Subgraph(constants, dtypes, names, operations)


def buffer_bytes(buffer, data: np.ndarray) -> np.ndarray | None:
    if buffer.offset > 1:
        if buffer.offset + buffer.size > data.size:
            raise OperatorError("a constant lies behind the end of the file", "copy the bundle again")
        return data[buffer.offset : buffer.offset + buffer.size]
    return None if buffer.data is None or len(buffer.data) == 0 else np.array(buffer.data, np.uint8)


def load_operation(operator, codes: list[tuple[int, str]], constants: dict[int, np.ndarray], caches: Caches):
    builtin, custom = codes[operator.opcodeIndex]
    schema = load_schema()
    inputs, output = tuple(int(i) for i in operator.inputs), int(operator.outputs[0])
    if builtin == schema.BuiltinOperator.CUSTOM:
        if custom not in spec.OPERATORS:
            raise OperatorError(f"operator {custom} is unknown", spec.REEXPORT)
        attributes = spec.OPERATORS[custom].from_bytes(bytes(bytearray(operator.customOptions)))
        run = CUSTOM[custom](attributes, constants.get(inputs[1]) if len(inputs) > 1 else None, caches)
        return Operation(custom, inputs, output, run)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    name = names.get(builtin, str(builtin))
    if name not in BUILTIN:
        raise OperatorError(f"builtin operator {name} is not known to the NumPy executor", spec.REEXPORT)
    return Operation(name, inputs, output, BUILTIN[name](operator.builtinOptions))


def codes_of(weights: np.ndarray, weight_format: int, out_features: int, in_features: int) -> np.ndarray:
    if weight_format == WeightFormat.FLOAT32:
        return weights.reshape(out_features, in_features)
    return unpack(PackedWeights(WeightFormat(weight_format), out_features, in_features, weights))


def make_linear(a: spec.Linear, weights: np.ndarray, caches: Caches):
    codes = codes_of(weights, a.weight_format, a.out_features, a.in_features)

    def run(x, packed, scale, *rest):
        rest = list(rest)
        if a.norm_kind:
            norm_bias = rest.pop() if a.norm_kind == NormKind.LAYER else None
            x = reference.norm(x, rest.pop(), norm_bias, a.norm_kind, a.norm_epsilon)
        residual = rest.pop() if a.has_residual else None
        bias = rest.pop() if a.has_bias else None
        builtin = caches.builtins and caches.builtins.of(a, packed, codes, scale)
        if builtin:
            return reference.finish_linear(builtin(x), bias, residual, a.activation)
        groups = groups_of(a, *rest) if a.group_size else None
        return reference.linear(x, codes, scale, bias, residual, a.activation, groups)

    return run


def groups_of(a: spec.Linear, scale: np.ndarray, zero: np.ndarray | None = None) -> Groups:
    count = group_count(a.in_features, a.group_size)
    values = [None if part is None else unpack_groups(part, a.out_features, count) for part in (scale, zero)]
    return Groups(a.group_size, *values)


def make_norm(a: spec.Norm, weights: np.ndarray, caches: Caches):
    return lambda x, weight, bias=None: reference.norm(x, weight, bias, a.kind, a.epsilon)


def make_attention(a: spec.Attention, weights: np.ndarray | None, caches: Caches):
    return caches.of_attention(a).attend


def make_embedding(a: spec.Embedding, weights: np.ndarray, caches: Caches):
    table = codes_of(weights, a.weight_format, a.vocab_size, a.width)
    return lambda ids, _weights, scale, image_features=None: reference.embedding(
        ids, table, scale, image_features, a.image_token_id
    )


def make_swiglu(a: spec.SwiGlu, weights: np.ndarray | None, caches: Caches):
    return reference.swiglu


def make_token_scatter(a: spec.TokenScatter, weights: np.ndarray | None, caches: Caches):
    return caches.of_tokens(a).scatter


def make_token_gather(a: spec.TokenGather, weights: np.ndarray | None, caches: Caches):
    return caches.of_tokens(a).gather


def make_sample(a: spec.Sample, weights: np.ndarray | None, caches: Caches):
    return reference.sample


CUSTOM = {
    spec.Linear.OP: make_linear,
    spec.Norm.OP: make_norm,
    spec.Attention.OP: make_attention,
    spec.Embedding.OP: make_embedding,
    spec.SwiGlu.OP: make_swiglu,
    spec.TokenScatter.OP: make_token_scatter,
    spec.TokenGather.OP: make_token_gather,
    spec.Sample.OP: make_sample,
}


def fully_connected(options):
    def run(x, w, bias=None):
        y = x.reshape(-1, w.shape[1]) @ w.T
        y = y if bias is None else y + bias
        return y.reshape(*x.shape[:-1], len(w)) if options.keepNumDims else y

    return run


def strided_slice(options):
    def run(x, begin, end, strides):
        slices = []
        for axis in range(x.ndim):
            first = None if options.beginMask >> axis & 1 else int(begin[axis])
            last = None if options.endMask >> axis & 1 else int(end[axis])
            slices.append(slice(first, last, int(strides[axis])))
        return x[tuple(slices)]

    return run


def gelu(options):
    if not options.approximate:
        raise OperatorError("builtin operator GELU is known in its tanh form alone", spec.REEXPORT)
    return reference.gelu_tanh


def slice_of(options):
    return lambda x, begin, size: x[
        tuple(slice(int(b), None if s < 0 else int(b + s)) for b, s in zip(begin, size, strict=True))
    ]


def mean(options):
    return lambda x, axes: x.mean(axis=tuple(int(axis) for axis in axes), keepdims=bool(options.keepDims))


BUILTIN = {
    "FULLY_CONNECTED": fully_connected,
    "ADD": lambda options: np.add,
    "SUB": lambda options: np.subtract,
    "MUL": lambda options: np.multiply,
    "GATHER": lambda options: lambda params, indices: np.take(params, indices, axis=options.axis),
    "RESHAPE": lambda options: lambda x, shape: x.reshape(shape),
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_of,
    "GELU": gelu,
    "MEAN": mean,
}
