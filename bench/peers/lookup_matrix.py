# SPDX-License-Identifier: Apache-2.0
"""The ternarization paper's scheme on single matrices: lookup.cc, compiled for AVX2."""

from __future__ import annotations

import argparse
import ctypes
import platform
from pathlib import Path

import numpy as np

from bench.peers.matrix import Matrix, NotDone, Prepared, pack_low_first, serve_matrices, unlike_copies
from custom_ops.build import find_compiler, run_compiler

SOURCE = Path(__file__).with_name("lookup.cc")
FLAGS = {"x86_64": ["-mavx2", "-mfma", "-mbmi2"]}


def compile_library(path: Path) -> Path:
    """Raises OperatorError: what to install."""
    flags = ["-std=c++17", "-O3", "-fPIC", "-Wno-psabi", *FLAGS.get(platform.machine(), [])]
    run_compiler([*find_compiler(), *flags, "-shared", str(SOURCE), "-o", str(path)])
    return path


def prepare(library: ctypes.CDLL, matrix: Matrix) -> Prepared:
    if matrix.inputs % 8 or matrix.outputs % 4 or (matrix.rows > 1 and matrix.rows % 4):
        raise NotDone("lookup.cc wants multiples of 8 inputs and of 4 outputs and rows")
    packed = pack_low_first(matrix.codes() + np.int8(1), 2)
    copies = list(unlike_copies(packed, matrix.copies(2)))
    x, scale = matrix.x(), np.ones(matrix.outputs, np.float32)
    y = np.empty((matrix.rows, matrix.outputs), np.float32)
    sizes = (matrix.rows, matrix.inputs, matrix.outputs)
    addresses = [ctypes.c_void_p(copy.ctypes.data) for copy in copies]
    x_at, scale_at, y_at = (ctypes.c_void_p(array.ctypes.data) for array in (x, scale, y))

    def run() -> list[np.ndarray]:
        for address in addresses:
            library.lookup_linear(x_at, address, scale_at, *sizes, y_at)
        return [x, scale, *copies]  # what the addresses point to lives as long as this function

    return Prepared(run, len(copies), lambda: y)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library", type=Path, help="compiled from lookup.cc")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    library = ctypes.CDLL(str(args.library))
    serve_matrices(lambda matrix: prepare(library, matrix))


if __name__ == "__main__":
    main()
