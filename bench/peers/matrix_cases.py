# SPDX-License-Identifier: Apache-2.0
"""The single matrices on which `make bench-ops` meets its peers, and what each of their processes does in a round."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.peers.contender import serve

STREAMED_BYTES = 64 << 20  # of one row's weights: more than the last-level cache holds
LEAST_S = 0.05  # of calls per case and round


@dataclass(frozen=True)
class MatrixCase:
    """``rows`` of float32 activations times a matrix (outputs, inputs), into float32."""

    outputs: int
    inputs: int
    rows: int = 1

    @property
    def name(self) -> str:
        return f"{self.outputs}x{self.inputs}, {self.rows} row{'s' if self.rows > 1 else ''}"

    def copies(self, bits: float) -> int:
        """Matrices of ``bits`` a weight that one call multiplies: for one row, so many that all come from memory."""
        matrix_bytes = self.outputs * self.inputs * bits / 8
        return 1 if self.rows > 1 else max(2, round(STREAMED_BYTES / matrix_bytes))


ONE_ROW = (MatrixCase(1536, 576), MatrixCase(576, 1536), MatrixCase(2048, 2048), MatrixCase(8192, 2048))
MANY_ROWS = (MatrixCase(1536, 576, 64), MatrixCase(2048, 2048, 64), MatrixCase(768, 3072, 1024))
CASES = ONE_ROW + MANY_ROWS

Call = Callable[[], object]


def microseconds(call: Call, copies: int) -> float:
    """Of one matrix: the least of a few calls, each of which multiplies ``copies``."""
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < LEAST_S:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / copies


def serve_cases(make: Callable[[MatrixCase], tuple[Call, int] | str]) -> None:
    """Answer every round with microseconds by case. ``make`` gives a call and how many matrices it multiplies, or says
    why there is none; the calls have run once before the first round."""
    made = {case.name: make(case) for case in CASES}
    notes = {name: call for name, call in made.items() if isinstance(call, str)}
    calls = {name: call for name, call in made.items() if name not in notes}
    for call, _ in calls.values():
        call()
    serve({"notes": notes}, lambda: {name: microseconds(*call) for name, call in calls.items()})
