# SPDX-License-Identifier: Apache-2.0
"""llama.cpp on single matrices: ggml_mul_mat of its CPU backend, in a library built for this CPU by ggml_build.py.

Weights lie as llama.cpp lays them out when it loads a model: rearranged for the CPU where it has a kernel for that.
"""

from __future__ import annotations

import argparse
import ctypes
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from bench.peers.matrix import Matrix, NotDone, Prepared, serve_matrices, unlike_copies

F32 = 0
TYPES = {"Q4_0": (2, 4.5), "Q8_0": (8, 8.5), "TQ1_0": (34, 1.6875), "TQ2_0": (35, 2.0625)}  # ggml's number, bits
WIDTH = {"Q4_0": 32, "Q8_0": 32, "TQ1_0": 256, "TQ2_0": 256}  # inputs in a block
SIGNATURES = {  # result, arguments
    "ggml_init": (c_void_p, None),  # its argument is a struct
    "ggml_free": (None, [c_void_p]),
    "ggml_tensor_overhead": (c_size_t, []),
    "ggml_graph_overhead_custom": (c_size_t, [c_size_t, c_bool]),
    "ggml_new_tensor_2d": (c_void_p, [c_void_p, c_int, c_int64, c_int64]),
    "ggml_mul_mat": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "ggml_new_graph_custom": (c_void_p, [c_void_p, c_size_t, c_bool]),
    "ggml_build_forward_expand": (None, [c_void_p, c_void_p]),
    "ggml_row_size": (c_size_t, [c_int, c_int64]),
    "ggml_quantize_chunk": (c_size_t, [c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
    "ggml_backend_cpu_init": (c_void_p, []),
    "ggml_backend_cpu_set_n_threads": (None, [c_void_p, c_int]),
    "ggml_backend_cpu_buffer_type": (c_void_p, []),
    "ggml_backend_get_device": (c_void_p, [c_void_p]),
    "ggml_backend_dev_backend_reg": (c_void_p, [c_void_p]),
    "ggml_backend_reg_get_proc_address": (c_void_p, [c_void_p, c_char_p]),
    "ggml_backend_dev_supports_op": (c_bool, [c_void_p, c_void_p]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, [c_void_p, c_void_p]),
    "ggml_backend_buffer_free": (None, [c_void_p]),
    "ggml_backend_tensor_set": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_graph_compute": (c_int, [c_void_p, c_void_p]),
}


QUIET = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(lambda *_: None)  # it tells of every matrix


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


def load_ggml(library: Path) -> ctypes.CDLL:
    ggml = ctypes.CDLL(str(library))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(ggml, name)
        function.restype = result
        if arguments is not None:
            function.argtypes = arguments
    ggml.ggml_log_set(QUIET, None)
    return ggml


def own_buffer_types(ggml: ctypes.CDLL, device: int) -> list[int]:
    """Where the CPU backend rearranges weights, best first; llama.cpp asks for them in the same way."""
    registry = ggml.ggml_backend_dev_backend_reg(device)
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    found = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(address)(device)
    kinds = []
    while found and found[len(kinds)]:
        kinds.append(found[len(kinds)])
    return kinds


class Products:
    """A graph of all copies of the weights times one x, with its memory."""

    def __init__(self, ggml: ctypes.CDLL, kind: str, threads: int, matrix: Matrix) -> None:
        self.ggml, self.matrix, self.held = ggml, matrix, []
        self.type, bits = TYPES[kind]
        if matrix.inputs % WIDTH[kind]:
            raise NotDone(f"{kind} has blocks of {WIDTH[kind]} inputs")
        self.backend = ggml.ggml_backend_cpu_init()
        ggml.ggml_backend_cpu_set_n_threads(self.backend, threads)
        self.copies = matrix.copies(bits)
        self.x, self.weights, self.products = self.allocate()
        packed, x = self.quantised(), np.ascontiguousarray(matrix.x())
        for tensor, one in zip(self.weights, unlike_copies(packed, self.copies), strict=True):
            ggml.ggml_backend_tensor_set(tensor, one.ctypes.data, 0, one.nbytes)
        ggml.ggml_backend_tensor_set(self.x, x.ctypes.data, 0, x.nbytes)
        context = self.context(0, ggml.ggml_graph_overhead_custom(2 * self.copies + 1, False))
        self.graph = ggml.ggml_new_graph_custom(context, 2 * self.copies + 1, False)
        for product in self.products:
            ggml.ggml_build_forward_expand(self.graph, product)

    def context(self, tensors: int, more: int = 0) -> int:
        size = tensors * self.ggml.ggml_tensor_overhead() + more + 4096
        created = self.ggml.ggml_init(InitParams(size, None, True))
        self.held.append((self.ggml.ggml_free, created))
        return created

    def buffer(self, context: int, kind: int) -> None:
        memory = self.ggml.ggml_backend_alloc_ctx_tensors_from_buft(context, kind)
        if not memory:
            raise NotDone("ggml could not allocate the matrices")
        self.held.append((self.ggml.ggml_backend_buffer_free, memory))

    def allocate(self) -> tuple[int, list[int], list[int]]:
        """x, the weights and their products with it, in the first kind of memory that the product can read from."""
        ggml, matrix = self.ggml, self.matrix
        device = ggml.ggml_backend_get_device(self.backend)
        plain = ggml.ggml_backend_cpu_buffer_type()
        for kind in [*own_buffer_types(ggml, device), plain]:
            stored = self.context(self.copies)
            weights = [
                ggml.ggml_new_tensor_2d(stored, self.type, matrix.inputs, matrix.outputs) for _ in range(self.copies)
            ]
            self.buffer(stored, kind)
            rest = self.context(self.copies + 1)
            x = ggml.ggml_new_tensor_2d(rest, F32, matrix.inputs, matrix.rows)
            products = [ggml.ggml_mul_mat(rest, one, x) for one in weights]
            self.buffer(rest, plain)
            if kind == plain or ggml.ggml_backend_dev_supports_op(device, products[0]):
                return x, weights, products
            self.free()
        raise NotDone("ggml has no memory for it")

    def quantised(self) -> np.ndarray:
        matrix = self.matrix
        plain = matrix.codes().astype(np.float32)
        packed = np.empty(matrix.outputs * self.ggml.ggml_row_size(self.type, matrix.inputs), np.uint8)
        size = (matrix.outputs, matrix.inputs)
        self.ggml.ggml_quantize_chunk(self.type, plain.ctypes.data, packed.ctypes.data, 0, *size, None)
        return packed.reshape(matrix.outputs, -1)

    def run(self) -> None:
        self.ggml.ggml_backend_graph_compute(self.backend, self.graph)

    def result(self) -> np.ndarray:
        y = np.empty((self.matrix.rows, self.matrix.outputs), np.float32)
        self.ggml.ggml_backend_tensor_get(self.products[-1], y.ctypes.data, 0, y.nbytes)
        return y

    def free(self) -> None:
        while self.held:
            release, what = self.held.pop()
            release(what)

    def __del__(self) -> None:
        self.free()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=TYPES)
    parser.add_argument("library", type=Path, help="libggml.so")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    ggml = load_ggml(args.library)

    def prepare(matrix: Matrix) -> Prepared:
        products = Products(ggml, args.kind, args.threads, matrix)
        return Prepared(products.run, products.copies, products.result)

    serve_matrices(prepare)


if __name__ == "__main__":
    main()
