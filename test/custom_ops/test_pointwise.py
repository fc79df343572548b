# SPDX-License-Identifier: Apache-2.0
"""Norm, SwiGlu, Embedding and the token operators in the real runtime against NumPy."""

import numpy as np
import pytest

from custom_ops.packing import pack
from custom_ops.spec import Embedding, Norm, NormKind, SwiGlu, TokenGather, TokenScatter, WeightFormat

WIDTHS = [1, 7, 8, 9, 64, 70, 193]


def norm_model(build, kind, width, rng, epsilon=1e-6):
    vectors = [rng.normal(size=width).astype(np.float32) for _ in range(2 if kind == NormKind.LAYER else 1)]

    def describe(graph):
        x = graph.input("x", (-1, width))
        inputs = [x] + [graph.constant(f"c{i}", vector) for i, vector in enumerate(vectors)]
        return {"x": x}, {"y": graph.custom(Norm(kind, width, epsilon), inputs, "y", (-1, width))}

    return build(describe)


@pytest.mark.parametrize("kind", list(NormKind))
def test_norms(kind, isa, build, open_model, rng):
    for width in WIDTHS:
        path = norm_model(build, kind, width, rng)
        x = rng.normal(2, 3, (5, width)).astype(np.float32)
        got, expected = (open_model(path, which)(x=x)["y"] for which in (isa, "numpy"))
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", list(NormKind))
def test_norms_of_the_instruction_sets_agree_bit_for_bit(kind, build, open_model, operators, rng):
    path = norm_model(build, kind, 193, rng)
    x = rng.normal(2, 3, (5, 193)).astype(np.float32)
    results = [open_model(path, isa)(x=x)["y"] for isa in operators.info.available_isas]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_swiglu(isa, build, open_model, rng):
    for width in WIDTHS:

        def describe(graph, width=width):
            x = graph.input("x", (-1, 2 * width))
            return {"x": x}, {"y": graph.custom(SwiGlu(width), [x], "y", (-1, width))}

        path = build(describe)
        x = rng.normal(0, 30, (4, 2 * width)).astype(np.float32)
        got, expected = (open_model(path, which)(x=x)["y"] for which in (isa, "numpy"))
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("weight_format", [WeightFormat.INT8, WeightFormat.FLOAT32])
def test_embedding_places_image_features(weight_format, isa, build, open_model, rng):
    vocabulary, width, image = 37, 21, 5
    codes = rng.integers(-127, 128, (vocabulary, width)).astype(np.int8)
    table = pack(codes, weight_format).data if weight_format == WeightFormat.INT8 else codes.astype(np.float32)
    scale = rng.random(vocabulary).astype(np.float32)

    def describe(graph):
        inputs = {"ids": graph.input("ids", (-1,), np.int32), "features": graph.input("features", (-1, width))}
        tensors = [inputs["ids"], graph.constant("table", table), graph.constant("scale", scale), inputs["features"]]
        attributes = Embedding(weight_format, vocabulary, width, image, 1)
        return inputs, {"y": graph.custom(attributes, tensors, "y", (-1, width))}

    run = open_model(build(describe), isa)
    ids, features = np.array([3, image, 36, image, 0], np.int32), rng.normal(size=(2, width)).astype(np.float32)
    y = run(ids=ids, features=features)["y"]
    assert np.array_equal(y[[1, 3]], features)
    assert np.array_equal(y[[0, 2, 4]], codes[[3, 36, 0]].astype(np.float32) * scale[[3, 36, 0], None])
    with pytest.raises(RuntimeError, match="EdgeVlmEmbedding.*2 image tokens in the prompt, 1 image features"):
        run(ids=ids, features=features[:1])
    with pytest.raises(RuntimeError, match="token id 37 of row 0 is outside the vocabulary of 37"):
        run(ids=np.array([37], np.int32), features=features[:1])
    assert np.array_equal(run(ids=ids, features=features)["y"], y)  # an error leaves the interpreter usable


def token_model(build, capacity=6, width=3):
    def describe(graph):
        inputs = {"x": graph.input("x", (-1, width)), "at": graph.input("at", (-1,), np.int32)}
        inputs["from"] = graph.input("from", (-1,), np.int32)
        scattered = graph.custom(
            TokenScatter(9, capacity, width), [inputs["x"], inputs["at"]], "all", (capacity, width)
        )
        gathered = graph.custom(TokenGather(9, capacity, width), [inputs["from"]], "some", (-1, width))
        return inputs, {"all": scattered, "some": gathered}

    return build(describe)


def test_tokens_are_kept_between_calls_and_not_between_interpreters(build, open_model, rng):
    path = token_model(build)
    first, second = open_model(path), open_model(path)
    x = rng.normal(size=(2, 3)).astype(np.float32)
    at, everything = np.array([4, 1], np.int32), np.arange(6, dtype=np.int32)
    y = first(**{"x": x, "at": at, "from": everything})
    assert np.array_equal(y["all"][[4, 1]], x) and not y["all"][[0, 2, 3, 5]].any()
    y = first(**{"x": x[:1], "at": np.array([0], np.int32), "from": np.array([1, 4, 0], np.int32)})
    assert np.array_equal(y["some"], [x[1], x[0], x[0]])
    y = second(**{"x": x[:1], "at": np.array([5], np.int32), "from": everything})
    assert not y["all"][:5].any()


@pytest.mark.parametrize("position", [-1, 6, 2**31 - 1])
def test_positions_outside_the_cache_are_refused(position, build, open_model):
    run = open_model(token_model(build))
    with pytest.raises(RuntimeError, match=f"EdgeVlmTokenScatter.*'all'.*position {position} of row 0 is outside 0..5"):
        run(
            **{"x": np.zeros((1, 3), np.float32), "at": np.array([position], np.int32), "from": np.array([0], np.int32)}
        )


def test_a_scatter_whose_output_is_not_read_fills_the_cache(build, open_model, rng):
    def describe(graph):
        x, at = graph.input("x", (-1, 3)), graph.input("at", (-1,), np.int32)
        graph.custom(TokenScatter(1, 6, 3), [x, at], "unread", (6, 3))
        return {"x": x, "at": at}, {"y": graph.custom(TokenGather(1, 6, 3), [at], "y", (-1, 3))}

    x = rng.normal(size=(2, 3)).astype(np.float32)
    assert np.array_equal(open_model(build(describe))(x=x, at=np.array([5, 2], np.int32))["y"], x)


def test_no_rows_at_all(isa, build, open_model, rng):
    run = open_model(norm_model(build, NormKind.LAYER, 9, rng), isa)
    assert run(x=np.zeros((0, 9), np.float32))["y"].shape == (0, 9)
    run = open_model(token_model(build), isa)
    nowhere = np.zeros(0, np.int32)
    y = run(**{"x": np.zeros((0, 3), np.float32), "at": nowhere, "from": nowhere})
    assert y["all"].shape == (6, 3) and y["some"].shape == (0, 3)
