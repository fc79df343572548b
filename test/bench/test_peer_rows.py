# SPDX-License-Identifier: Apache-2.0
"""What bench-ops says of single matrices beside peers; the peers themselves run in the benchmark alone."""

from dataclasses import dataclass, field

from bench.peer_rows import OURS, rows_of
from bench.peers.matrix_cases import MANY_ROWS, ONE_ROW, STREAMED_BYTES, MatrixCase, serve_cases


@dataclass
class Found:
    microseconds: float
    why: str = ""
    ready: dict = field(default_factory=dict)

    def best(self, _name: str) -> float:
        return self.microseconds


def test_one_row_of_any_format_meets_weights_that_no_cache_holds():
    for case in ONE_ROW:
        for bits in (1.6, 2, 4.5, 8, 16):
            assert case.copies(bits) * case.outputs * case.inputs * bits / 8 > 0.9 * STREAMED_BYTES
    assert all(case.copies(2) == 1 for case in MANY_ROWS)


def test_goals_are_ratios_to_ours_and_what_did_not_run_says_why():
    case = MatrixCase(1536, 576)
    notes = {"notes": {case.name: "no such rows"}}
    found = {OURS: Found(10.0), "LiteRT int8": Found(45.0), "llama.cpp TQ2_0": Found(float("nan"), ready=notes)}
    rows = {row.name: row for row in rows_of(case, found)}
    assert rows[f"{case.name}: times faster than LiteRT int8"].value == 4.5
    assert rows[f"{case.name}: times faster than LiteRT int8"].holds
    missing = rows[f"{case.name}: times faster than llama.cpp TQ2_0"]
    assert missing.value is None and not missing.holds and missing.note == "no such rows"


def test_a_round_times_every_case_that_can_be_made(monkeypatch, capsys):
    monkeypatch.setattr("bench.peers.matrix_cases.LEAST_S", 0.0)
    monkeypatch.setattr("sys.stdin", ["\n"])
    calls = []
    serve_cases(lambda case: (lambda: calls.append(case.name), 2) if case.rows == 1 else "not here")
    ready, answer = capsys.readouterr().out.splitlines()
    assert "not here" in ready and all(case.name in answer for case in ONE_ROW)
    assert not any(f'"{case.name}": 0' in answer for case in MANY_ROWS)
