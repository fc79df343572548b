# SPDX-License-Identifier: Apache-2.0
"""Runs our .tflite files in NumPy: the oracle of the tests, and the last resort where the operator library cannot load.

Knows our custom operators (reference.py) and the builtin ones that our exporter writes. The interface is that of the
TFLite interpreter's signatures::

    interpreter = NumpyInterpreter("vision.tflite")
    features = interpreter.get_signature_runner("encode")(patches=patches, positions=positions)["image_features"]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from custom_ops import reference, spec
from custom_ops.builtin_contract import BUILTINS
from custom_ops.builtin_contract import CUSTOM as CUSTOM_CODE
from custom_ops.builtin_linear import BuiltinLinears
from custom_ops.errors import OperatorError
from custom_ops.model_check import read_model
from custom_ops.model_file import TENSOR_TYPES, ModelFile, Operators, SignatureFile, SubgraphFile
from custom_ops.packing import Groups, PackedWeights, group_count, unpack, unpack_groups
from custom_ops.spec import NormKind, WeightFormat

DTYPES = {code: np.dtype(name) for name, code in TENSOR_TYPES.items()}
MAX_CACHE_BYTES = 1 << 30
UNFIT = (ValueError, TypeError, IndexError, KeyError, ArithmeticError, MemoryError)  # NumPy's, of a damaged model


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


class Caches:
    """The attention and token caches of one interpreter, by id, and LiteRT's own matrices where it uses them."""

    def __init__(self, builtins: BuiltinLinears | None = None) -> None:
        self.builtins = builtins
        self.attention: dict[int, reference.AttentionCache] = {}
        self.tokens: dict[int, reference.TokenCache] = {}

    def of_attention(self, a: spec.Attention) -> reference.AttentionCache:
        expect_cache(a.cache_id, a.capacity, a.kv_heads, a.head_dim)
        return self.attention.setdefault(a.cache_id, reference.AttentionCache(a))

    def of_tokens(self, a: spec.TokenScatter | spec.TokenGather) -> reference.TokenCache:
        expect_cache(a.cache_id, a.capacity, a.width)
        return self.tokens.setdefault(a.cache_id, reference.TokenCache(a.capacity, a.width))


def expect_cache(cache_id: int, *shape: int) -> None:
    """Raises OperatorError for one that no robot has memory for, as the delegate does."""
    if min(shape) < 1 or prod(shape) * np.float32().itemsize > MAX_CACHE_BYTES:
        raise OperatorError(f"cache {cache_id} of {shape} is empty or larger than 1 GiB", spec.REEXPORT)


class NumpyInterpreter:
    """A model in NumPy. Raises OperatorError for a file that is not ours or an operator that it does not know.

    ``builtin_linear``: matrices are multiplied by LiteRT's own FULLY_CONNECTED where that holds their format, which is
    faster; results then differ by the rounding of activations (builtin_linear.py).
    """

    def __init__(self, model_path: Path | str, caches: Caches | None = None, builtin_linear: bool = False) -> None:
        self.path = Path(model_path)
        self.caches = caches or Caches(BuiltinLinears() if builtin_linear else None)
        model = read_model(self.path)
        try:
            self.subgraphs = [load_subgraph(graph, model, self.caches) for graph in model.subgraphs]
        except OperatorError as error:
            raise OperatorError(f"{self.path}: {error.what}", error.remedy) from error
        self.signatures = {signature.key: signature for signature in model.signatures}

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

    def run(self, signature: SignatureFile, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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
            except (OperatorError, *UNFIT) as error:
                node = f"{operation.name} (output '{graph.names[operation.output]}')"
                what, remedy = (
                    (error.what, error.remedy) if isinstance(error, OperatorError) else (error, spec.REEXPORT)
                )
                raise OperatorError(f"{node}: {what}", remedy) from error
        return {name: np.array(values[tensor]) for name, tensor in signature.outputs.items()}


def load_subgraph(graph: SubgraphFile, model: ModelFile, caches: Caches) -> Subgraph:
    tensors, operators = graph.tensors, graph.operators
    dtypes = {index: DTYPES[int(code)] for index, code in enumerate(tensors.types)}
    constants = {}
    for index, buffer in enumerate(tensors.buffers):
        raw = model.constant(buffer)
        if raw is not None:
            constants[index] = raw.view(dtypes[index]).reshape(tensors.shapes.of(index))
    names = {index: tensors.names[index] for index in range(len(tensors))}
    operations = tuple(load_operation(i, operators, model.codes, constants, caches) for i in range(len(operators)))
    return Subgraph(constants, dtypes, names, operations)


def load_operation(
    index: int,
    operators: Operators,
    codes: tuple[tuple[int, str], ...],
    constants: dict[int, np.ndarray],
    caches: Caches,
) -> Operation:
    builtin, name = codes[int(operators.codes[index])]
    inputs, output = tuple(operators.inputs.of(index).tolist()), int(operators.outputs.of(index)[0])
    if builtin != CUSTOM_CODE:
        name = BUILTINS[builtin].name
        return Operation(name, inputs, output, BUILTIN[name](operators.options[index]))
    attributes = spec.OPERATORS[name].from_bytes(operators.custom_options.of(index).tobytes())
    try:
        run = CUSTOM[name](attributes, constants.get(inputs[1]) if len(inputs) > 1 else None, caches)
    except UNFIT as error:
        raise OperatorError(f"{name}: attributes and weights do not fit ({error})", spec.REEXPORT) from error
    return Operation(name, inputs, output, run)


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
        return y.reshape(*x.shape[:-1], len(w)) if options["keep_num_dims"] else y

    return run


def strided_slice(options):
    def run(x, begin, end, strides):
        slices = []
        for axis in range(x.ndim):
            first = None if options["begin_mask"] >> axis & 1 else int(begin[axis])
            last = None if options["end_mask"] >> axis & 1 else int(end[axis])
            slices.append(slice(first, last, int(strides[axis])))
        return x[tuple(slices)]

    return run


def slice_of(options):
    return lambda x, begin, size: x[
        tuple(slice(int(b), None if s < 0 else int(b + s)) for b, s in zip(begin, size, strict=True))
    ]


def mean(options):
    return lambda x, axes: x.mean(axis=tuple(int(axis) for axis in axes), keepdims=bool(options["keep_dims"]))


BUILTIN = {
    "FULLY_CONNECTED": fully_connected,
    "ADD": lambda options: np.add,
    "SUB": lambda options: np.subtract,
    "MUL": lambda options: np.multiply,
    "GATHER": lambda options: lambda params, indices: np.take(params, indices, axis=0),
    "RESHAPE": lambda options: lambda x, shape: x.reshape(shape),
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_of,
    "GELU": lambda options: reference.gelu_tanh,
    "MEAN": mean,
}
