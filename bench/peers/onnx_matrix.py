# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on single matrices: MatMulNBits of 2 or 4 bits, activations as int8 (accuracy level 4)."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.peers.matrix import Matrix, NotDone, Prepared, pack_low_first, serve_matrices, unlike_copies

DOMAIN = "com.microsoft"
IR_VERSION, OPSET = 10, 21
BLOCKS = (128, 64, 32)  # inputs that share a scale, fastest first; of more than 128 it multiplies in float


def packed_blocks(codes: np.ndarray, bits: int, block: int) -> np.ndarray:
    """uint8 (outputs, blocks, bytes): codes above the zero point of half the range, the first in the low bits."""
    packed = pack_low_first(codes + np.int8(2 ** (bits - 1)), bits)
    return packed.reshape(len(codes), -1, block * bits // 8)


def write_model(path: Path, bits: int, block: int, matrix: Matrix) -> int:
    """A graph of all copies; returns their number."""
    packed = packed_blocks(matrix.codes(), bits, block)
    scales = np.ones(packed.shape[0] * packed.shape[1], np.float32)
    copies = matrix.copies(bits + 32 / block)
    nodes, constants, outputs = [], [], []
    options = {"K": matrix.inputs, "N": matrix.outputs, "bits": bits, "block_size": block, "accuracy_level": 4}
    for number, one in enumerate(unlike_copies(packed, copies)):
        names = [f"w{number}", f"s{number}"]
        constants += [numpy_helper.from_array(one, names[0]), numpy_helper.from_array(scales, names[1])]
        nodes.append(helper.make_node("MatMulNBits", ["x", *names], [f"y{number}"], domain=DOMAIN, **options))
        outputs.append(helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, [matrix.rows, matrix.outputs]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [matrix.rows, matrix.inputs])
    graph = helper.make_graph(nodes, "matrices", [x], outputs, constants)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION), path)
    return copies


def prepare(bits: int, threads: int, matrix: Matrix) -> Prepared:
    block = next((size for size in BLOCKS if matrix.inputs % size == 0), None)
    if block is None:
        raise NotDone(f"blocks of {BLOCKS[-1]} inputs")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        copies = write_model(path, bits, block, matrix)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()  # inputs and outputs stay where they are from one run to the next
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(matrix.x()))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((matrix.rows, matrix.outputs), np.float32))
              for _ in range(copies)]  # fmt: skip
    for number, value in enumerate(values):
        binding.bind_ortvalue_output(f"y{number}", value)
    return Prepared(lambda: session.run_with_iobinding(binding), copies, values[-1].numpy)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bits", type=int, choices=[2, 4])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    serve_matrices(lambda matrix: prepare(args.bits, args.threads, matrix))


if __name__ == "__main__":
    main()
