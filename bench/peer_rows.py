# SPDX-License-Identifier: Apache-2.0
"""Single matrices: ours and peers, each a process of its own, asked in turn round by round.

One thread, float32 in and out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.peers.contender import Contender
from bench.peers.environment import peers_python
from bench.peers.matrix_cases import CASES, MatrixCase
from bench.rows import Row

OURS = "ours, ternary"
PEERS = (  # name, module, arguments, whether it lives in the peers' own environment
    (OURS, "matrix_litert", ("ternary",), False),
    ("LiteRT int8", "matrix_litert", ("int8",), False),
    ("LiteRT int4", "matrix_litert", ("int4",), False),
    ("LiteRT int2", "matrix_litert", ("int2",), False),
    ("llama.cpp TQ2_0", "matrix_llama", ("TQ2_0",), True),
    ("llama.cpp TQ1_0", "matrix_llama", ("TQ1_0",), True),
    ("llama.cpp Q4_0", "matrix_llama", ("Q4_0",), True),
    ("llama.cpp Q8_0", "matrix_llama", ("Q8_0",), True),
    ("ONNX Runtime 4-bit", "matrix_onnxruntime", ("4",), True),
    ("ONNX Runtime 2-bit", "matrix_onnxruntime", ("2",), True),
    ("torch bfloat16", "matrix_torch", ("bfloat16",), False),
    ("torch int8", "matrix_torch", ("int8",), False),
    ("the paper's scheme", "matrix_paper", (), False),
)
ONE_ROW_GOALS = {
    "the paper's scheme": 5.0,
    "llama.cpp TQ2_0": 2.2,
    "ONNX Runtime 2-bit": 2.5,
    "LiteRT int2": 1.8,
    "LiteRT int8": 4.0,
}
MANY_ROWS_GOALS = {"LiteRT int8": 1.1, "llama.cpp Q4_0": 3.0}


def measure_peers(rounds: int, progress: Callable[[int], None]) -> list[Row]:
    """Raises EdgeVlmError where the peers cannot be installed."""
    python = peers_python()
    found = [
        Contender(name, module, *arguments, threads=1, python=python if apart else sys.executable)
        for name, module, arguments, apart in PEERS
    ]
    for number in range(rounds):
        for one in found:
            one.measure()
        progress(number + 1)
    for one in found:
        one.close()
    return [row for case in CASES for row in rows_of(case, {one.name: one for one in found})]


def rows_of(case: MatrixCase, found: dict[str, Contender]) -> list[Row]:
    """Microseconds of every contender, then how many times faster ours is."""
    rows, ratios = [], []
    goals = ONE_ROW_GOALS if case.rows == 1 else MANY_ROWS_GOALS
    ours = found[OURS].best(case.name)
    for name, one in found.items():
        why = one.why or one.ready.get("notes", {}).get(case.name, "")
        value = None if why else one.best(case.name)
        rows.append(Row(f"{case.name}: {name}", value, "us", note=why))
        if name != OURS:
            ratio = None if value is None else value / ours
            ratios.append(Row(f"{case.name}: times faster than {name}", ratio, "", goals.get(name), "higher", why))
    return rows + ratios
