# SPDX-License-Identifier: Apache-2.0
"""Single matrices in other runtimes: what they compute, and the figures made of their times."""

import ctypes

import numpy as np
import pytest

from bench import op_peers
from bench.op_peers import LIMIT, OURS, PEERS, answer_of, peer_rows
from bench.peers import limit_matrix, litert_matrix, lookup_matrix
from bench.peers.contender import Contender
from bench.peers.matrix import Matrix, NotDone, error_of, microseconds, pack_low_first, unlike_copies

SMALL = Matrix(32, 64, 4)


def answers() -> dict:
    """Every peer takes 30 us and ours 10."""
    return {peer.name: {"us": 30.0} for peer in PEERS} | {OURS: {"us": 10.0}}


def rows_of(found: dict) -> dict:
    return {row.name.partition(": ")[2]: row for row in peer_rows(found)}


def test_figures_say_how_many_times_faster_ours_is():
    rows = rows_of({Matrix(2048, 2048, 1): answers()})
    assert rows["ours"].value == 10.0
    assert rows["times faster than LiteRT int8"].value == pytest.approx(3.0)
    assert rows["times faster than LiteRT int8"].holds is False  # one row wants 4
    assert rows["times faster than LiteRT int2"].holds is True
    assert rows["times faster than torch int8"].holds is None


def test_our_share_of_the_limit_has_no_goal_here():
    found = answers() | {LIMIT: {"us": 9.0}}
    row = rows_of({Matrix(2048, 2048, 1): found})["ours, share of the limit"]
    assert (row.value, row.goal) == (pytest.approx(0.9), None)


def test_the_limit_is_a_time_for_one_row(tmp_path):
    try:
        limit = limit_matrix.Limit(limit_matrix.compile_library(tmp_path / "limits.so"))
    except op_peers.EdgeVlmError as error:
        pytest.skip(f"limits.cc: {error}")
    assert limit.answer("256 256 1")["us"] > 0


def test_goals_of_many_rows_are_others():
    rows = rows_of({Matrix(2048, 2048, 64): answers()})
    assert rows["times faster than LiteRT int8"].holds is True
    assert rows["times faster than llama.cpp Q4_0"].holds is True
    assert rows["times faster than LiteRT int2"].goal is None


def test_a_peer_that_cannot_do_a_matrix_has_a_note_and_no_goal():
    found = answers() | {"llama.cpp TQ2_0": {"note": "TQ2_0 has blocks of 256 inputs", "cannot": True}}
    row = rows_of({Matrix(1536, 576, 1): found})["times faster than llama.cpp TQ2_0"]
    assert (row.value, row.goal, row.note) == (None, None, "TQ2_0 has blocks of 256 inputs")


def test_a_peer_that_failed_misses_its_goal():
    found = answers() | {"llama.cpp TQ2_0": {"note": "no package index"}}
    row = rows_of({Matrix(2048, 2048, 1): found})["times faster than llama.cpp TQ2_0"]
    assert (row.value, row.holds, row.note) == (None, False, "no package index")


def test_without_our_own_time_no_goal_holds():
    found = answers() | {OURS: {"note": "it ended"}}
    assert not any(row.holds for row in peer_rows({Matrix(2048, 2048, 1): found}))


def test_peers_that_cannot_be_installed_are_left_out(monkeypatch, tmp_path):
    def refuse(peer, folder):
        raise op_peers.EdgeVlmError("no package index\nmore", "connect")

    monkeypatch.setattr(op_peers, "start_one", refuse)
    found = op_peers.measure([SMALL], 1, tmp_path, lambda done: None)
    assert "no package index" in found[SMALL][OURS]["note"]


@pytest.mark.parametrize("kind", litert_matrix.BITS)
def test_litert_multiplies_every_kind_of_weights(kind):
    prepared = litert_matrix.prepare(kind, 1, SMALL)
    assert error_of(SMALL, prepared) < 0.03
    assert microseconds(prepared) > 0


@pytest.fixture(scope="module")
def lookups(tmp_path_factory):
    try:
        path = lookup_matrix.compile_library(tmp_path_factory.mktemp("lookup") / "lookup.so")
    except op_peers.EdgeVlmError as error:
        pytest.skip(f"lookup.cc: {error}")
    return ctypes.CDLL(str(path))


@pytest.mark.parametrize("matrix", [SMALL, Matrix(8, 72, 1), Matrix(12, 8, 1), Matrix(4, 40, 8)])
def test_the_papers_look_ups_are_exact(lookups, matrix):
    assert error_of(matrix, lookup_matrix.prepare(lookups, matrix)) < 1e-6


def test_the_papers_look_ups_refuse_other_shapes(lookups):
    with pytest.raises(NotDone, match="multiples"):
        lookup_matrix.prepare(lookups, Matrix(5, 8, 1))


def test_one_row_uses_more_weights_than_the_caches_hold():
    matrix = Matrix(256, 256, 1)
    assert matrix.copies(2) * 256 * 256 / 4 >= 60e6
    assert Matrix(256, 256, 64).copies(2) == 1


def test_no_two_copies_of_the_weights_are_alike():
    codes = SMALL.codes()
    copies = list(unlike_copies(codes, 5))
    assert len({copy.tobytes() for copy in copies}) == 5
    assert np.array_equal(copies[-1], codes)


def test_the_first_code_is_in_the_low_bits():
    assert pack_low_first(np.array([[1, -1, 0, -2]], np.int8), 2).tolist() == [[0b10_00_11_01]]
    assert pack_low_first(np.array([[1, -1]], np.int8), 4).tolist() == [[0xF1]]


def test_a_contender_answers_requests_and_forgets_when_asked_for_the_best():
    one = Contender("ours", "litert_matrix", "ours", threads=1)
    for _ in range(2):
        one.measure("32 64 4")
    assert len(one.found) == 2
    best = answer_of(one)
    assert best["us"] > 0
    assert one.found == []
    one.close()


def test_a_contender_that_ends_says_why():
    one = Contender("none", "litert_matrix", "no-such-kind", threads=1)
    assert "no-such-kind" in answer_of(one)["note"]
    one.close()


def test_a_wrong_result_is_no_time():
    one = Contender("ours", "litert_matrix", "ours", threads=1)
    one.found = [{"us": 1.0, "error": 0.9}]
    assert "wrong" in answer_of(one)["note"]
    one.close()
