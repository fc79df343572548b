# SPDX-License-Identifier: Apache-2.0
"""The machine's limit for single matrices of 2-bit weights: reading them from memory, or multiplying in registers.

No contender can be faster that reads weights of two bits once from memory, or multiplies with AVX-512 VNNI.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np

from bench.peers.contender import serve_requests
from bench.peers.matrix import Matrix, rotated_bytes
from custom_ops.build import find_compiler, run_compiler

SOURCE = Path(__file__).with_name("limits.cc")


def compile_library(path: Path) -> Path:
    """Raises OperatorError: what to install."""
    flags = ["-std=c++17", "-O3", "-fPIC", "-Wno-psabi"]
    run_compiler([*find_compiler(), *flags, "-shared", str(SOURCE), "-o", str(path)])
    return path


class Limit:
    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.read_us.restype = self.library.product_rate.restype = ctypes.c_double
        self.library.read_us.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        self.memory = np.ones(rotated_bytes(), np.uint8)

    def answer(self, request: str) -> dict:
        matrix = Matrix(*map(int, request.split()))
        weights, rate = matrix.outputs * matrix.inputs, self.library.product_rate()
        times = [weights * matrix.rows / rate] if rate else []
        if matrix.rows == 1:
            times.append(self.read_us(weights // 4))
        if not times:
            return {"cannot": "the limit of arithmetic is known for AVX-512 VNNI only"}
        return {"us": max(times), "error": 0.0}

    def read_us(self, size: int) -> float:
        """Of so many bytes, in the fastest way of reading memory."""
        begin, copies = self.memory.ctypes.data, range(0, len(self.memory) - size + 1, size)
        ways = range(self.library.reading_count())
        return min(sum(self.library.read_us(way, begin + at, size) for at in copies) for way in ways) / len(copies)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library", type=Path, help="compiled from limits.cc")
    parser.add_argument("--threads", type=int, default=1)
    serve_requests({}, Limit(parser.parse_args().library).answer)


if __name__ == "__main__":
    main()
