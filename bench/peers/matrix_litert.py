# SPDX-License-Identifier: Apache-2.0
"""Single matrices in LiteRT, as many nodes of one graph: our ternary operator, or its own FULLY_CONNECTED."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bench.peers.matrix_cases import MatrixCase, serve_cases
from custom_ops.library import load_operators
from custom_ops.litert import load_runtime, load_schema
from custom_ops.packing import packed_bytes
from custom_ops.spec import Linear, WeightFormat
from custom_ops.tflite_writer import GraphWriter, ModelWriter

BITS = {"ternary": 2, "int8": 8, "int4": 4, "int2": 2}


def ternary_node(graph: GraphWriter, x: int, case: MatrixCase, rng: np.random.Generator) -> int:
    packed = rng.integers(0, 256, packed_bytes(WeightFormat.TERNARY, case.outputs, case.inputs), np.uint8) & 0x55
    weights, scale = graph.constant("weights", packed), graph.constant("scale", np.ones(case.outputs, np.float32))
    attributes = Linear(WeightFormat.TERNARY, case.inputs, case.outputs)
    return graph.custom(attributes, [x, weights, scale], "y", (case.rows, case.outputs))


def builtin_node(graph: GraphWriter, x: int, case: MatrixCase, rng: np.random.Generator, kind: str) -> int:
    """Weights of one scale per output, activations quantised on the fly."""
    schema = load_schema()
    data = rng.integers(0, 256, case.outputs * case.inputs * BITS[kind] // 8, np.uint8)
    weights = graph.tensor("weights", (case.outputs, case.inputs), np.int8, graph.writer.buffer(data))
    tensor, quantisation = graph.graph.tensors[weights], schema.QuantizationParametersT()
    tensor.type = getattr(schema.TensorType, kind.upper())
    quantisation.scale = [0.01] * case.outputs
    quantisation.zeroPoint = [0] * case.outputs
    quantisation.quantizedDimension = 0
    tensor.quantization = quantisation
    options = graph.schema_options("FullyConnectedOptions", keepNumDims=True, asymmetricQuantizeInputs=True)
    return graph.builtin("FULLY_CONNECTED", [x, weights, -1], "y", (case.rows, case.outputs), options)


def write_model(path: Path, case: MatrixCase, kind: str) -> int:
    """The graph; returns how many matrices it holds."""
    rng, writer, copies = np.random.default_rng(0), ModelWriter("bench-ops"), case.copies(BITS[kind])
    graph = writer.subgraph("run")
    x = graph.input("x", (case.rows, case.inputs))
    make = ternary_node if kind == "ternary" else lambda *given: builtin_node(*given, kind)
    outputs = {f"y{copy}": make(graph, x, case, rng) for copy in range(copies)}
    graph.signature("run", {"x": x}, outputs)
    writer.save(path)
    return copies


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(BITS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def make(case: MatrixCase):
            path = Path(folder) / f"{case.outputs}x{case.inputs}x{case.rows}.tflite"
            try:
                copies = write_model(path, case, args.kind)
                if args.kind == "ternary":
                    interpreter = load_operators(args.threads).interpreter(path, xnnpack_threads=1)
                else:
                    interpreter = load_runtime().Interpreter(model_path=str(path), num_threads=args.threads)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                return " ".join(str(error).split())[:100]
            shape = (case.rows, case.inputs)
            x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
            return interpreter.invoke, copies

        serve_cases(make)


if __name__ == "__main__":
    main()
