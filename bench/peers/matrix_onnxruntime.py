# SPDX-License-Identifier: Apache-2.0
"""Single matrices in ONNX Runtime: MatMulNBits with int8 activations (accuracy level 4), a scale for 32 inputs."""

from __future__ import annotations

import argparse

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.peers.matrix_cases import MatrixCase, serve_cases

BLOCK = 32


def model_of(case: MatrixCase, bits: int, copies: int) -> bytes:
    rng, blocks = np.random.default_rng(0), -(-case.inputs // BLOCK)
    nodes, constants, outputs = [], [], []
    for copy in range(copies):
        codes = rng.integers(0, 256, (case.outputs, blocks, BLOCK * bits // 8), np.uint8)
        scale = np.full(case.outputs * blocks, 0.01, np.float32)
        constants += [numpy_helper.from_array(codes, f"w{copy}"), numpy_helper.from_array(scale, f"s{copy}")]
        nodes.append(
            helper.make_node(
                "MatMulNBits", ["x", f"w{copy}", f"s{copy}"], [f"y{copy}"], domain="com.microsoft",
                K=case.inputs, N=case.outputs, bits=bits, block_size=BLOCK, accuracy_level=4,
            )
        )  # fmt: skip
        outputs.append(helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, [case.rows, case.outputs]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [case.rows, case.inputs])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "bench", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def make_call(case: MatrixCase, bits: int, threads: int):
    copies = case.copies(bits + 32 / BLOCK)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        session = onnxruntime.InferenceSession(model_of(case, bits, copies), options)
    except Exception as error:  # the library has no common class of errors
        return " ".join(str(error).split())[:100]
    inputs = {"x": np.random.default_rng(1).normal(size=(case.rows, case.inputs)).astype(np.float32)}
    return lambda: session.run(None, inputs), copies


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bits", type=int, choices=[2, 4])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    serve_cases(lambda case: make_call(case, args.bits, args.threads))


if __name__ == "__main__":
    main()
