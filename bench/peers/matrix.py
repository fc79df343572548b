# SPDX-License-Identifier: Apache-2.0
"""One matrix times some rows, as every contender is asked for it: the weights, the copies of them, and the timing.

A request is ``outputs inputs rows``, the answer ``us`` (of one product) and ``error`` (of the result, relative), or
``cannot`` where the contender cannot do that shape. All have the same ternary weights, each in its own format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.peers.contender import serve_requests

MOST_COPIES = 1 << 14
LEAST_BYTES, MOST_BYTES = 64 << 20, 256 << 20
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TURN_S = 0.005  # what a turn lasts at least


class NotDone(Exception):  # noqa: N818
    """The contender has no product of this shape; the message says why."""


@dataclass(frozen=True)
class Matrix:
    """Weights (outputs, inputs) times activations (rows, inputs). One row: weights from memory, else from caches."""

    outputs: int
    inputs: int
    rows: int

    def codes(self) -> np.ndarray:
        """int8 (outputs, inputs) in -1..1, the same in every process."""
        return np.random.default_rng(0).integers(-1, 2, (self.outputs, self.inputs)).astype(np.int8)

    def x(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((self.rows, self.inputs)).astype(np.float32)

    def copies(self, bits: float) -> int:
        """How often weights of so many bits are held, so that using all in turn reads each from memory. Not of matrices
        so small that nothing but the call would be timed."""
        if self.rows > 1:
            return 1
        return min(MOST_COPIES, max(2, round(rotated_bytes() / (self.outputs * self.inputs * bits / 8))))


def rotated_bytes() -> int:
    """Three times the last cache, within limits."""
    sizes = [int(path.read_text().strip().removesuffix("K")) << 10 for path in CACHES.glob("index*/size")]
    return min(MOST_BYTES, max([LEAST_BYTES, *(3 * size for size in sizes)]))


@dataclass(frozen=True)
class Prepared:
    """``run`` makes ``products`` of them; ``result`` is what the last gave, (rows, outputs)."""

    run: Callable[[], object]
    products: int
    result: Callable[[], np.ndarray]


def serve_matrices(make: Callable[[Matrix], Prepared]) -> None:
    """Answer requests until the input ends; ``make`` is called where the shape is another one than before."""
    state: dict = {"matrix": None, "prepared": None, "answer": {}}

    def answer(request: str) -> dict:
        matrix = Matrix(*map(int, request.split()))
        if matrix != state["matrix"]:
            state.update(matrix=matrix, prepared=None, answer={})  # the former's memory is given back first
            try:
                state["prepared"] = make(matrix)
                state["answer"] = {"error": error_of(matrix, state["prepared"])}
            except NotDone as why:
                state["answer"] = {"cannot": str(why)}
        prepared = state["prepared"]
        return state["answer"] if prepared is None else state["answer"] | {"us": microseconds(prepared)}

    serve_requests({}, answer)


def microseconds(prepared: Prepared) -> float:
    """Of one product: the mean of a turn."""
    runs, begin = 0, time.perf_counter()
    while runs == 0 or time.perf_counter() - begin < TURN_S:
        prepared.run()
        runs += 1
    return 1e6 * (time.perf_counter() - begin) / (runs * prepared.products)


def error_of(matrix: Matrix, prepared: Prepared) -> float:
    """Relative to the exact product: says that a contender computes what it is asked for."""
    prepared.run()
    exact = matrix.x() @ matrix.codes().astype(np.float32).T
    return float(np.linalg.norm(prepared.result() - exact) / np.linalg.norm(exact))


def unlike_copies(packed: np.ndarray, copies: int) -> Iterator[np.ndarray]:
    """``packed`` with its rows moved round by one each time, and last as it is.

    Runtimes may keep equal constants once: ONNX Runtime does, and would then read them from a cache.
    """
    for number in reversed(range(copies)):
        yield np.roll(packed, number, axis=0)


def pack_low_first(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes (N, K) of ``bits`` (2 or 4) in two's complement -> uint8 (N, K bits / 8), the first in the low bits."""
    each = 8 // bits
    parts = (codes.view(np.uint8) & np.uint8(2**bits - 1)).reshape(len(codes), -1, each)
    shifts = (np.arange(each) * bits).astype(np.uint8)
    return np.bitwise_or.reduce(parts << shifts, axis=2)
