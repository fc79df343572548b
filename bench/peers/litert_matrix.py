# SPDX-License-Identifier: Apache-2.0
"""LiteRT on single matrices: our ternary operator, or its own FULLY_CONNECTED of int8, int4 or int2 weights.

All in one kind of graph: as many operators as there are copies of the weights, side by side on one input. LiteRT's own
run in XNNPACK, quantise activations themselves and have a scale per output.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bench.peers.matrix import Matrix, Prepared, pack_low_first, serve_matrices, unlike_copies
from custom_ops.library import load_operators
from custom_ops.litert import load_runtime
from custom_ops.packing import pack
from custom_ops.spec import BLOCK_ROWS, Linear, WeightFormat
from custom_ops.tflite_writer import GraphWriter, ModelWriter

BITS = {"ours": 2, "int8": 8, "int4": 4, "int2": 2}
TYPES = {"int8": "INT8", "int4": "INT4", "int2": "INT2"}  # in the schema


def write_model(path: Path, kind: str, matrix: Matrix) -> int:
    """A graph of all copies; returns their number."""
    writer = ModelWriter(f"{kind} matrices")
    graph = writer.subgraph("run")
    x = graph.input("x", (matrix.rows, matrix.inputs))
    codes, scale = matrix.codes(), np.ones(matrix.outputs, np.float32)
    bits = BITS[kind]
    if kind == "ours":
        packed = pack(codes, WeightFormat.TERNARY).data.reshape(-(-matrix.outputs // BLOCK_ROWS), -1)
    else:
        packed = codes if kind == "int8" else pack_low_first(codes, bits)
    outputs = {}
    for number, weights in enumerate(unlike_copies(packed, matrix.copies(bits))):
        add = our_linear if kind == "ours" else fully_connected
        outputs[f"y{number}"] = add(graph, kind, matrix, x, weights, scale)
    graph.signature("run", {"x": x}, outputs)
    writer.save(path)
    return len(outputs)


def our_linear(graph: GraphWriter, _: str, matrix: Matrix, x: int, weights: np.ndarray, scale: np.ndarray) -> int:
    constants = [graph.constant("weights", weights.reshape(-1)), graph.constant("scale", scale)]
    attributes = Linear(WeightFormat.TERNARY, matrix.inputs, matrix.outputs)
    return graph.custom(attributes, [x, *constants], "y", (matrix.rows, matrix.outputs))


def fully_connected(graph: GraphWriter, kind: str, matrix: Matrix, x: int, weights: np.ndarray, scale) -> int:
    schema, shape = graph.schema, (matrix.outputs, matrix.inputs)
    tensor = graph.tensor("weights", shape, np.int8, graph.writer.buffer(weights))
    quantised = schema.QuantizationParametersT()
    quantised.scale, quantised.zeroPoint, quantised.quantizedDimension = scale, np.zeros(len(scale), np.int64), 0
    graph.graph.tensors[tensor].quantization = quantised
    graph.graph.tensors[tensor].type = getattr(schema.TensorType, TYPES[kind])
    return graph.fully_connected(x, tensor)


def prepare(kind: str, threads: int, matrix: Matrix) -> Prepared:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        copies = write_model(path, kind, matrix)
        if kind == "ours":
            interpreter = load_operators(threads).interpreter(path)
        else:
            interpreter = load_runtime().Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], matrix.x())
    last = interpreter.get_output_details()[-1]["index"]
    return Prepared(interpreter.invoke, copies, lambda: interpreter.get_tensor(last))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=BITS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    serve_matrices(lambda matrix: prepare(args.kind, args.threads, matrix))


if __name__ == "__main__":
    main()
