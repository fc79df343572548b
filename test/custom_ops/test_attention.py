# SPDX-License-Identifier: Apache-2.0
"""Attention and its cache in the real runtime, every instruction set, against NumPy."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from custom_ops.spec import HEADER, MAGIC, Attention, CacheFormat


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
FORMATS = tuple(CacheFormat)
# An int8 cache rounds in float: a weight next to a half goes either way, by 1/16256 of the largest.
TOLERANCE = {CacheFormat.FLOAT32: 1e-5, CacheFormat.FLOAT16: 1e-5, CacheFormat.INT8: 5e-4}


def call(run, qkv, positions):
    return run(qkv=qkv, positions=np.asarray(positions, np.int32))["y"]


def assert_close(got, expected, cache_format):
    tolerance = TOLERANCE[cache_format]
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cache_format", FORMATS)
@pytest.mark.parametrize("heads", [(1, 1), (3, 3), (6, 2), (5, 1)])
@pytest.mark.parametrize("head_dim", [1, 6, 8, 17, 64])
def test_all_positions_against_numpy(heads, head_dim, cache_format, isa, build, open_model, rng):
    path, row = attention_model(build, Attention(1, 19, *heads, head_dim, 0, 0.0, head_dim**-0.5, cache_format))
    qkv = rng.normal(0, 2, (19, row)).astype(np.float32)
    got, expected = (call(open_model(path, which), qkv, range(19)) for which in (isa, "numpy"))
    assert_close(got, expected, cache_format)


@pytest.mark.parametrize("cache_format", FORMATS)
@pytest.mark.parametrize("causal", [0, 1])
def test_many_positions_against_numpy(causal, cache_format, isa, build, open_model, rng):
    attributes = Attention(1, 301, 4, 2, 24, causal, 1e4 * causal, 0.2, cache_format)
    path, row = attention_model(build, attributes)
    qkv = (rng.normal(size=(289, row)) * rng.lognormal(0, 0.4, (289, 1))).astype(np.float32)
    got, expected = (call(open_model(path, which), qkv, range(289)) for which in (isa, "numpy"))
    assert_close(got, expected, cache_format)


@pytest.mark.parametrize(("cache_format", "limit"), [(CacheFormat.FLOAT16, 1e-3), (CacheFormat.INT8, 3e-2)])
@pytest.mark.parametrize("attributes", [replace(ENCODER, capacity=200, head_dim=64), replace(DECODER, capacity=200)])
def test_small_caches_stay_near_float(attributes, cache_format, limit, build, open_model, rng):
    paths = [attention_model(build, replace(attributes, cache_format=f)) for f in (CacheFormat.FLOAT32, cache_format)]
    qkv = rng.normal(size=(200, paths[0][1])).astype(np.float32)
    exact, got = (call(open_model(path), qkv, range(200)) for path, _ in paths)
    assert np.linalg.norm(got - exact) <= limit * np.linalg.norm(exact)


def test_attributes_of_version_1_mean_a_float_cache(build, open_model, rng):
    @dataclass(frozen=True)
    class Version1:
        attributes: Attention
        OP = Attention.OP
        query_heads, kv_heads, head_dim = DECODER.query_heads, DECODER.kv_heads, DECODER.head_dim

        def to_bytes(self):
            return HEADER.pack(MAGIC, 1, 32) + self.attributes.to_bytes()[HEADER.size : -4]

    (old, row), (new, _) = attention_model(build, Version1(DECODER)), attention_model(build, DECODER)
    qkv = rng.normal(size=(20, row)).astype(np.float32)
    expected = call(open_model(new), qkv, range(20))
    assert np.array_equal(call(open_model(old), qkv, range(20)), expected)
    np.testing.assert_allclose(call(open_model(old, "numpy"), qkv, range(20)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache_format", FORMATS)
def test_some_rows_attend_to_the_cached_ones(cache_format, isa, build, open_model, rng):
    path, row = attention_model(build, replace(ENCODER, cache_format=cache_format))
    ours, numpy = open_model(path, isa), open_model(path, "numpy")
    for positions in ([4, 0, 20], range(7), [20], range(21), [3, 5, 8, 13]):  # the first calls leave holes
        qkv = rng.normal(size=(len(positions), row)).astype(np.float32)
        assert_close(call(ours, qkv, positions), call(numpy, qkv, positions), cache_format)


@pytest.mark.parametrize("cache_format", FORMATS)
def test_computing_all_rows_again_or_some_gives_the_dense_bits(cache_format, isa, build, open_model, rng):
    path, row = attention_model(build, replace(ENCODER, cache_format=cache_format))
    run = open_model(path, isa)
    qkv = rng.normal(size=(21, row)).astype(np.float32)
    dense = call(run, qkv, range(21))
    assert np.array_equal(call(run, qkv, range(21)), dense)
    for positions in ([7], [0, 20], [1, 2, 3, 5, 8, 13, 19]):
        assert np.array_equal(call(run, qkv[positions], positions), dense[positions])
    assert np.array_equal(call(open_model(path, isa, 3), qkv, range(21)), dense)


@pytest.mark.parametrize("cache_format", FORMATS)
def test_prefill_and_decode_equal_one_long_prefill(cache_format, isa, build, open_model, rng):
    path, row = attention_model(build, replace(DECODER, cache_format=cache_format))
    qkv = rng.normal(size=(33, row)).astype(np.float32)
    whole = call(open_model(path, isa), qkv, range(33))
    assert_close(whole, call(open_model(path, "numpy"), qkv, range(33)), cache_format)
    run = open_model(path, isa)
    parts = [call(run, qkv[:20], range(20))] + [call(run, qkv[p : p + 1], [p]) for p in range(20, 33)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("cache_format", FORMATS)
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e38])
def test_a_new_prefill_forgets_the_old_one(rubbish, cache_format, isa, build, open_model, rng):
    path, row = attention_model(build, replace(DECODER, cache_format=cache_format))
    run = open_model(path, isa)
    call(run, np.full((33, row), rubbish, np.float32), range(33))
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


@pytest.mark.parametrize("cache_format", FORMATS)
def test_extreme_scores_do_not_overflow(cache_format, isa, build, open_model):
    path, row = attention_model(build, Attention(1, 4, 1, 1, 8, 0, 0.0, 1.0, cache_format))
    qkv = np.zeros((4, row), np.float32)
    qkv[:, :8] = 1e3
    qkv[:, 8:16] = np.array([[-1e3], [1e3], [0], [5e2]], np.float32)
    qkv[:, 16:] = np.array([[1], [2], [3], [4]], np.float32)
    np.testing.assert_allclose(call(open_model(path, isa), qkv, range(4)), 2, rtol=1e-4)
