# SPDX-License-Identifier: Apache-2.0
"""Attention and its cache in the real runtime, every instruction set, against NumPy."""

import numpy as np
import pytest

from custom_ops.spec import Attention


def attention_model(build, attributes):
    width = attributes.query_heads * attributes.head_dim
    row = width + 2 * attributes.kv_heads * attributes.head_dim

    def describe(graph):
        inputs = {"qkv": graph.input("qkv", (-1, row)), "positions": graph.input("positions", (-1,), np.int32)}
        y = graph.custom(attributes, list(inputs.values()), "attended", (-1, width))
        return inputs, {"y": y}

    return build(describe), row


ENCODER = Attention(1, 21, 3, 3, 10, 0, 0.0, 0.3)
DECODER = Attention(2, 33, 6, 2, 12, 1, 10000.0, 0.29)


def call(run, qkv, positions):
    return run(qkv=qkv, positions=np.asarray(positions, np.int32))["y"]


@pytest.mark.parametrize("heads", [(1, 1), (3, 3), (6, 2), (5, 1)])
@pytest.mark.parametrize("head_dim", [1, 6, 8, 17, 64])
def test_all_positions_against_numpy(heads, head_dim, isa, build, open_model, rng):
    path, row = attention_model(build, Attention(1, 19, *heads, head_dim, 0, 0.0, head_dim**-0.5))
    qkv = rng.normal(0, 2, (19, row)).astype(np.float32)
    got, expected = (call(open_model(path, which), qkv, range(19)) for which in (isa, "numpy"))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_some_rows_attend_to_the_cached_ones(isa, build, open_model, rng):
    path, row = attention_model(build, ENCODER)
    ours, numpy = open_model(path, isa), open_model(path, "numpy")
    for positions in ([4, 0, 20], range(7), [20], range(21), [3, 5, 8, 13]):  # the first calls leave holes
        qkv = rng.normal(size=(len(positions), row)).astype(np.float32)
        np.testing.assert_allclose(call(ours, qkv, positions), call(numpy, qkv, positions), rtol=1e-5, atol=1e-5)


def test_computing_all_rows_again_or_some_gives_the_dense_bits(isa, build, open_model, rng):
    path, row = attention_model(build, ENCODER)
    run = open_model(path, isa)
    qkv = rng.normal(size=(21, row)).astype(np.float32)
    dense = call(run, qkv, range(21))
    assert np.array_equal(call(run, qkv, range(21)), dense)
    for positions in ([7], [0, 20], [1, 2, 3, 5, 8, 13, 19]):
        assert np.array_equal(call(run, qkv[positions], positions), dense[positions])
    assert np.array_equal(call(open_model(path, isa, 3), qkv, range(21)), dense)


def test_prefill_and_decode_equal_one_long_prefill(isa, build, open_model, rng):
    path, row = attention_model(build, DECODER)
    qkv = rng.normal(size=(33, row)).astype(np.float32)
    whole = call(open_model(path, isa), qkv, range(33))
    np.testing.assert_allclose(whole, call(open_model(path, "numpy"), qkv, range(33)), rtol=1e-5, atol=1e-5)
    run = open_model(path, isa)
    parts = [call(run, qkv[:20], range(20))] + [call(run, qkv[p : p + 1], [p]) for p in range(20, 33)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_new_prefill_forgets_the_old_one(isa, build, open_model, rng):
    path, row = attention_model(build, DECODER)
    run = open_model(path, isa)
    call(run, np.full((33, row), np.nan, np.float32), range(33))
    qkv = rng.normal(size=(9, row)).astype(np.float32)
    assert np.array_equal(call(run, qkv, range(9)), call(open_model(path, isa), qkv, range(9)))
    with pytest.raises(RuntimeError, match="EdgeVlmAttention.*'attended'.*position 10 leaves a gap after the 9 cached"):
        call(run, qkv[:1], [10])


def test_positions_of_a_decoder_must_be_consecutive(build, open_model, rng):
    path, row = attention_model(build, DECODER)
    with pytest.raises(RuntimeError, match="position 2 follows 0, expected consecutive"):
        call(open_model(path), np.zeros((2, row), np.float32), [0, 2])


@pytest.mark.parametrize("position", [-1, 21])
def test_positions_outside_the_cache_are_refused(position, build, open_model):
    path, row = attention_model(build, ENCODER)
    with pytest.raises(RuntimeError, match=f"position {position} of row 1 is outside 0..20"):
        call(open_model(path), np.zeros((2, row), np.float32), [0, position])


def test_extreme_scores_do_not_overflow(isa, build, open_model):
    path, row = attention_model(build, Attention(1, 4, 1, 1, 8, 0, 0.0, 1.0))
    qkv = np.zeros((4, row), np.float32)
    qkv[:, :8] = 1e3
    qkv[:, 8:16] = np.array([[-1e3], [1e3], [0], [5e2]], np.float32)
    qkv[:, 16:] = np.array([[1], [2], [3], [4]], np.float32)
    assert np.array_equal(call(open_model(path, isa), qkv, range(4)), np.full((4, 8), 2, np.float32))
