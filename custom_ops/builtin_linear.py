# SPDX-License-Identifier: Apache-2.0
"""Linear by LiteRT's own FULLY_CONNECTED, for machines on which the operator library cannot be built or loaded.

LiteRT (2.3 and later) multiplies activations, quantised on the fly, with weights of 2, 4 and 8 bits that have one scale
per output: INT2 (four values a byte, low bits first, -2..1) holds ternary and binary codes as they are. Its activations
have a zero point where ours are symmetric, so results differ by their rounding.

tflite-runtime 2.14 has no weights of 2 bits, and takes those of 8 bits with a scale per output for zeros: there NumPy
computes alone.
"""

from __future__ import annotations

import functools

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.litert import load_runtime, load_schema
from custom_ops.spec import Linear, WeightFormat
from custom_ops.tflite_writer import ModelWriter

BITS = {  # of the builtin type that holds a format's codes; grouped scales have none
    WeightFormat.TERNARY: 2,
    WeightFormat.TERNARY_DENSE: 2,
    WeightFormat.BINARY: 2,
    WeightFormat.INT2: 2,
    WeightFormat.INT3: 4,
    WeightFormat.INT4: 4,
    WeightFormat.INT8: 8,
}
INPUT_MULTIPLE = 32  # inputs are padded to it, so that every row begins with a byte
TOLERANCE = 0.02  # of the largest product, in the self-test


def pack_builtin(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes int8 (N, K), K a multiple of 32, as LiteRT packs them: uint8 (N * K * bits / 8,)."""
    per_byte = 8 // bits
    parts = (codes.reshape(-1, per_byte).astype(np.uint8) & (2**bits - 1)) << (
        bits * np.arange(per_byte, dtype=np.uint8)
    )
    return np.bitwise_or.reduce(parts, axis=1).astype(np.uint8)


class BuiltinLinear:
    """``x (rows, K) -> x W^T * scale (rows, N)`` for codes int8 (N, K) and scale (N,)."""

    def __init__(self, codes: np.ndarray, scale: np.ndarray, weight_format: WeightFormat) -> None:
        """Raises ValueError or RuntimeError where the runtime does not take such weights."""
        self.in_features = codes.shape[1]
        padding = -self.in_features % INPUT_MULTIPLE
        content = model_of(np.pad(codes, ((0, 0), (0, padding))), scale, BITS[WeightFormat(weight_format)])
        self.interpreter = load_runtime().Interpreter(model_content=content)
        self.x = self.interpreter.get_input_details()[0]["index"]
        self.y = self.interpreter.get_output_details()[0]["index"]
        self.padded = np.zeros((0, self.in_features + padding), np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if len(x) != len(self.padded):
            self.padded = np.zeros((len(x), self.padded.shape[1]), np.float32)
            self.interpreter.resize_tensor_input(self.x, self.padded.shape)
            self.interpreter.allocate_tensors()
        self.padded[:, : self.in_features] = x
        self.interpreter.set_tensor(self.x, self.padded)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.y)


class BuiltinLinears:
    """The matrices of one model: each is made at its first use, once however many signatures share it."""

    def __init__(self) -> None:
        self.made: dict[int, BuiltinLinear] = {}  # by the address of the packed weights, which the model file holds

    def of(self, attributes: Linear, weights: np.ndarray, codes: np.ndarray, scale: np.ndarray) -> BuiltinLinear | None:
        """None where a builtin cannot hold the weights: those with grouped scales."""
        if attributes.group_size:
            return None
        address = weights.ctypes.data
        if address not in self.made:
            self.made[address] = BuiltinLinear(codes, scale, attributes.weight_format)
        return self.made[address]


def model_of(codes: np.ndarray, scale: np.ndarray, bits: int) -> bytes:
    """A model of one FULLY_CONNECTED."""
    schema, writer = load_schema(), ModelWriter("edge_vlm: one matrix for a builtin operator")
    graph = writer.subgraph("main")
    x = graph.input("x", (-1, codes.shape[1]))
    weights = graph.tensor("weights", codes.shape, np.int8, writer.buffer(pack_builtin(codes, bits)))
    tensor, quantisation = graph.graph.tensors[weights], schema.QuantizationParametersT()
    tensor.type = getattr(schema.TensorType, f"INT{bits}")
    quantisation.scale = scale.tolist()
    quantisation.zeroPoint = [0] * len(scale)
    quantisation.quantizedDimension = 0
    tensor.quantization = quantisation
    options = graph.schema_options("FullyConnectedOptions", keepNumDims=True, asymmetricQuantizeInputs=True)
    y = graph.builtin("FULLY_CONNECTED", [x, weights, -1], "y", (-1, len(codes)), options)
    graph.signature("main", {"x": x}, {"y": y})
    return writer.content()


@functools.cache
def why_not_builtin() -> str:
    """Empty where the runtime multiplies weights of 2 and 8 bits rightly, else the reason in one line."""
    try:
        runtime = load_runtime()
    except OperatorError as error:
        return error.what
    if runtime.name == "tflite_runtime":  # nor does it bring the schema to write such a model with
        return f"{runtime} has no matrices of 2 bits"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    scale = rng.uniform(0.5, 1, 24).astype(np.float32)
    for weight_format, limit in ((WeightFormat.TERNARY, 1), (WeightFormat.INT8, 127)):
        codes = rng.integers(-limit, limit + 1, (24, 64)).astype(np.int8)
        expected = x @ (codes * scale[:, None]).T
        try:
            found = BuiltinLinear(codes, scale, weight_format)(x)
        except Exception as error:  # runtimes raise what they like
            return " ".join(f"{weight_format.name} weights are refused: {error}".split())
        if not np.allclose(found, expected, atol=TOLERANCE * np.abs(expected).max()):
            return f"{runtime} multiplies {weight_format.name} weights wrongly"
    return ""
