# SPDX-License-Identifier: Apache-2.0
"""Single matrices by the ternarization paper's own scheme: paper_scheme.cc, compiled here. x86-64 with AVX2 alone."""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from pathlib import Path

import numpy as np

from bench.peers.matrix_cases import MatrixCase, serve_cases
from custom_ops import build

SOURCE = Path(__file__).with_name("paper_scheme.cc")
BITS = 2


def compile_scheme(folder: Path) -> ctypes.CDLL:
    """Raises OperatorError: what to install."""
    library = folder / "paper_scheme.so"
    flags = ["-std=c++17", "-O3", "-mavx2", "-mfma", "-fPIC", "-shared"]
    build.run_compiler([*build.find_compiler(), *flags, str(SOURCE), "-o", str(library)])
    return ctypes.CDLL(str(library))


def make_call(scheme: ctypes.CDLL, case: MatrixCase):
    copies, rng = case.copies(BITS), np.random.default_rng(0)
    packed = rng.integers(0, 256, (copies, case.outputs, case.inputs // 4), np.uint8) & 0x55
    x = rng.normal(size=(case.rows, case.inputs)).astype(np.float32)
    scale, y = np.ones(case.outputs, np.float32), np.empty((case.rows, case.outputs), np.float32)
    sizes = (case.rows, case.inputs, case.outputs)

    def call() -> None:
        for matrix in packed:
            scheme.paper_matmul(pointer(x), pointer(matrix), pointer(scale), *sizes, pointer(y))

    return call, copies


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scheme = compile_scheme(Path(folder))
        serve_cases(lambda case: make_call(scheme, case))


if __name__ == "__main__":
    main()
