# SPDX-License-Identifier: Apache-2.0
"""Single matrices in our operator and in other runtimes, one thread each, asked in turn round by round.

float32 in and out; whoever quantises activations does it within the time. The least of all rounds is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import limit_matrix, lookup_matrix
from bench.peers.contender import Contender
from bench.peers.environment import peers_python
from bench.peers.ggml_build import ggml_library
from bench.peers.matrix import Matrix
from bench.rows import Row
from edge_vlm.errors import EdgeVlmError

MATRICES = (  # one row: weights from memory; more: from a cache
    Matrix(576, 1536, 1),
    Matrix(1536, 576, 1),
    Matrix(2048, 2048, 1),
    Matrix(8192, 2048, 1),
    Matrix(576, 1536, 64),
    Matrix(2048, 2048, 64),
    Matrix(768, 3072, 1024),
    Matrix(2048, 2048, 1024),
)
OURS, LIMIT = "ours", "limit of the machine"
LARGEST_ERROR = 0.2  # of a result, relative; Q4_0 has 0.1 as it stores one of -1 and 1 as 7 eighths


@dataclass(frozen=True)
class Peer:
    """``module`` of bench.peers and its arguments; ``one_row`` and ``many_rows``: how many times slower than ours it
    should be."""

    name: str
    module: str
    arguments: tuple[str, ...]
    one_row: float | None = None
    many_rows: float | None = None
    own_environment: bool = False

    def goal(self, matrix: Matrix) -> float | None:
        return self.one_row if matrix.rows == 1 else self.many_rows


PEERS = (
    Peer(LIMIT, "limit_matrix", ()),
    Peer(OURS, "litert_matrix", ("ours",)),
    Peer("the paper's look-ups", "lookup_matrix", (), one_row=5.0),
    Peer("LiteRT int8", "litert_matrix", ("int8",), one_row=4.0, many_rows=1.1),
    Peer("LiteRT int4", "litert_matrix", ("int4",)),
    Peer("LiteRT int2", "litert_matrix", ("int2",), one_row=1.8),
    Peer("llama.cpp TQ2_0", "ggml_matrix", ("TQ2_0",), one_row=2.2, own_environment=True),
    Peer("llama.cpp TQ1_0", "ggml_matrix", ("TQ1_0",), own_environment=True),
    Peer("llama.cpp Q4_0", "ggml_matrix", ("Q4_0",), many_rows=3.0, own_environment=True),
    Peer("llama.cpp Q8_0", "ggml_matrix", ("Q8_0",), own_environment=True),
    Peer("ONNX Runtime 2-bit", "onnx_matrix", ("2",), one_row=2.5, own_environment=True),
    Peer("ONNX Runtime 4-bit", "onnx_matrix", ("4",), own_environment=True),
    Peer("torch bfloat16", "torch_matrix", ("bfloat16",)),
    Peer("torch int8", "torch_matrix", ("int8",)),
)
BUILT = {  # what these modules load: given a path to write to, the path of the library
    "limit_matrix": limit_matrix.compile_library,
    "lookup_matrix": lookup_matrix.compile_library,
    "ggml_matrix": lambda _: ggml_library(),  # stays
}
Answers = dict[str, dict]  # of one matrix, by contender: us, or a note, and whether it cannot do such a matrix


def start(folder: Path) -> dict[str, Contender | str]:
    """All contenders, or why one does not run, by name."""
    found: dict[str, Contender | str] = {}
    for peer in PEERS:
        try:
            found[peer.name] = start_one(peer, folder)
        except EdgeVlmError as error:  # noqa: PERF203  no package index, no compiler: the others still run
            found[peer.name] = str(error).splitlines()[0]
    return found


def start_one(peer: Peer, folder: Path) -> Contender:
    """Raises EdgeVlmError where something that it needs is not there."""
    python = {"python": peers_python()} if peer.own_environment else {}
    built = [BUILT[peer.module](folder / f"{peer.module}.so")] if peer.module in BUILT else []
    return Contender(peer.name, peer.module, *peer.arguments, *built, threads=1, **python)


def measure(
    matrices: Sequence[Matrix], rounds: int, folder: Path, progress: Callable[[int], None]
) -> dict[Matrix, Answers]:
    """``progress`` is told how many matrices are done."""
    found, contenders = {}, start(folder)
    for number, matrix in enumerate(matrices):
        for _ in range(rounds):
            for one in contenders.values():
                if isinstance(one, Contender):
                    one.measure(f"{matrix.outputs} {matrix.inputs} {matrix.rows}")
        found[matrix] = {name: answer_of(one) for name, one in contenders.items()}
        progress(number + 1)
    for one in contenders.values():
        if isinstance(one, Contender):
            one.close()
    return found


def answer_of(one: Contender | str) -> dict:
    """The best of its answers, which it forgets: us, or a note that says why there is none."""
    if isinstance(one, str):
        return {"note": one}
    answers, one.found = one.found, []
    if one.why or not answers:
        return {"note": one.why or "no answer"}
    if "us" not in answers[0]:
        return {"note": answers[0]["cannot"], "cannot": True}
    if not answers[0]["error"] <= LARGEST_ERROR:
        return {"note": f"its result is wrong by {answers[0]['error']:.2g}"}
    return {"us": min(answer["us"] for answer in answers)}


def matrix_name(matrix: Matrix) -> str:
    rows = "1 row, from memory" if matrix.rows == 1 else f"{matrix.rows} rows"
    return f"{matrix.outputs}x{matrix.inputs}, {rows}"


def peer_rows(found: dict[Matrix, Answers]) -> list[Row]:
    """Times of all, and how many times faster ours is than each peer; no goal where a peer cannot do such a matrix."""
    rows = []
    for matrix, answers in found.items():
        ours = answers[OURS].get("us", math.nan)
        for peer in PEERS:
            answer = answers[peer.name]
            name, us, note = matrix_name(matrix), answer.get("us"), answer.get("note", "")
            rows.append(Row(f"{name}: {peer.name}", us, "us", note=note))
            if peer.name == LIMIT:
                rows.append(Row(f"{name}: ours, share of the limit", None if us is None else us / ours, note=note))
            elif peer.name != OURS:
                ratio = None if us is None else us / ours
                goal = None if answer.get("cannot") else peer.goal(matrix)
                rows.append(Row(f"{name}: times faster than {peer.name}", ratio, "", goal, "higher", note))
    return rows
