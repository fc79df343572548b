# SPDX-License-Identifier: Apache-2.0
"""Single matrices in llama.cpp: ggml_mul_mat of the library inside xllamacpp's wheel, as that was compiled."""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np
import xllamacpp

from bench.peers.matrix_cases import MatrixCase, serve_cases

TYPES = {"Q4_0": (2, 4.5), "Q8_0": (8, 8.5), "TQ1_0": (34, 1.6875), "TQ2_0": (35, 2.0625)}  # ggml_type, bits a weight
FLOAT32 = 0
MARGIN = 8 << 20  # of memory: tensors' descriptions, activations, work


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Plan(ctypes.Structure):
    """ggml_cplan, with room for fields that later versions append."""

    _fields_ = [("work_size", ctypes.c_size_t), ("work_data", ctypes.c_void_p), ("rest", ctypes.c_uint8 * 112)]


def load_ggml() -> ctypes.CDLL:
    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))
    library.ggml_init.argtypes = [InitParams]
    for name in ("ggml_init", "ggml_new_tensor_2d", "ggml_mul_mat", "ggml_new_graph_custom", "ggml_get_data"):
        getattr(library, name).restype = ctypes.c_void_p
    library.ggml_new_tensor_2d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    library.ggml_mul_mat.argtypes = [ctypes.c_void_p] * 3
    library.ggml_new_graph_custom.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool]
    library.ggml_build_forward_expand.argtypes = [ctypes.c_void_p] * 2
    library.ggml_nbytes.argtypes = library.ggml_get_data.argtypes = [ctypes.c_void_p]
    library.ggml_nbytes.restype = library.ggml_blck_size.restype = ctypes.c_size_t
    library.ggml_graph_plan.restype = Plan
    library.ggml_graph_plan.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    library.ggml_graph_compute.argtypes = [ctypes.c_void_p, ctypes.POINTER(Plan)]
    library.ggml_cpu_init()
    return library


def bytes_of(ggml: ctypes.CDLL, tensor: int) -> np.ndarray:
    data = (ctypes.c_uint8 * ggml.ggml_nbytes(tensor)).from_address(ggml.ggml_get_data(tensor))
    return np.frombuffer(data, np.uint8)


def make_call(ggml: ctypes.CDLL, kind: str, case: MatrixCase, threads: int):
    number, bits = TYPES[kind]
    block = 256 if kind.startswith("TQ") else 32
    if case.inputs % block:
        return f"{kind} takes rows of a multiple of {block} inputs"
    copies = case.copies(bits)
    size = int(copies * (case.outputs * case.inputs * bits / 8 + 4 * case.outputs * case.rows)) * 2 + MARGIN
    size += 16 * case.inputs * case.rows
    context = ggml.ggml_init(InitParams(size, None, False))
    x = ggml.ggml_new_tensor_2d(context, FLOAT32, case.inputs, case.rows)
    rng = np.random.default_rng(0)
    bytes_of(ggml, x)[:] = rng.normal(size=case.inputs * case.rows).astype(np.float32).view(np.uint8)
    graph = ggml.ggml_new_graph_custom(context, max(64, 4 * copies), False)
    for _ in range(copies):
        weights = ggml.ggml_new_tensor_2d(context, number, case.inputs, case.outputs)
        bytes_of(ggml, weights)[:] = 0x25  # any codes; as float16 a small scale
        ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, weights, x))
    return compute(ggml, graph, threads), copies


def compute(ggml: ctypes.CDLL, graph: int, threads: int):
    """A call with a plan and a work buffer made once: ggml_graph_compute_with_ctx would take memory every time."""
    plan = ggml.ggml_graph_plan(graph, threads, None)
    work = ctypes.create_string_buffer(plan.work_size + 64)
    plan.work_data = (ctypes.addressof(work) + 63) // 64 * 64
    return lambda: (ggml.ggml_graph_compute(graph, ctypes.byref(plan)), work)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(TYPES))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    ggml = load_ggml()
    serve_cases(lambda case: make_call(ggml, args.kind, case, args.threads))


if __name__ == "__main__":
    main()
