# SPDX-License-Identifier: Apache-2.0
"""Linear in the real runtime, every instruction set, against NumPy: bit for bit where no activation approximates."""

import numpy as np
import pytest

from custom_ops import reference
from custom_ops.packing import LIMITS, Groups, group_count, pack
from custom_ops.spec import GROUPED, Activation, Linear, Norm, NormKind, WeightFormat

FORMATS = list(LIMITS)


def random_codes(rng, weight_format, shape):
    if weight_format == WeightFormat.BINARY:
        return rng.choice(np.array([-1, 1], np.int8), shape)
    low, high = LIMITS[weight_format]
    return rng.integers(low, high + 1, shape).astype(np.int8)


def random_groups(rng, weight_format, shape, size, has_zero):
    low, high = LIMITS[weight_format]
    count = group_count(shape[1], size)
    zero = rng.integers(low, high + 1, (shape[0], count)).astype(np.int8) if has_zero else None
    return Groups(size, rng.uniform(0, 1, (shape[0], count)).astype(np.float16), zero)


def linear_model(
    build, weight_format, codes, scale, bias=None, activation=Activation.NONE, residual=False, groups=None
):
    out_features, in_features = codes.shape
    size, has_zero = (0, False) if groups is None else (groups.size, groups.zero is not None)
    attributes = Linear(
        weight_format, in_features, out_features, activation, int(bias is not None), int(residual), size, int(has_zero)
    )

    def describe(graph):
        inputs = {"x": graph.input("x", (-1, in_features))}
        arrays = [pack(codes, weight_format).data, scale]
        arrays += [] if groups is None else groups.packed()
        arrays += [] if bias is None else [bias]
        tensors = [inputs["x"]] + [graph.constant(f"c{i}", array) for i, array in enumerate(arrays)]
        if residual:
            inputs["residual"] = graph.input("residual", (-1, out_features))
            tensors.append(inputs["residual"])
        return inputs, {"y": graph.custom(attributes, tensors, "y", (-1, out_features))}

    return build(describe)


SIZES = [
    (1, 1),
    (2, 3),
    (3, 17),
    (15, 4),
    (16, 16),
    (17, 31),
    (31, 5),
    (33, 33),
    (47, 64),
    (48, 65),
    (70, 70),
    (192, 768),
]


@pytest.mark.parametrize("weight_format", FORMATS)
def test_equals_the_reference_bit_for_bit_on_odd_sizes(weight_format, isa, build, open_model, rng):
    for out_features, in_features in SIZES:
        codes = random_codes(rng, weight_format, (out_features, in_features))
        scale, bias = (rng.normal(size=out_features).astype(np.float32) for _ in range(2))
        run = open_model(linear_model(build, weight_format, codes, scale, bias), isa)
        for rows in (1, 2, 5, 13):
            x = rng.normal(size=(rows, in_features)).astype(np.float32)
            assert np.array_equal(run(x=x)["y"], reference.linear(x, codes, scale, bias)), (
                out_features,
                in_features,
                rows,
            )


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("in_features", [8191, 8192])
def test_worst_case_sums_are_exact(weight_format, in_features, isa, build, open_model):
    low, limit = LIMITS[weight_format]
    codes = np.full((18, in_features), limit, np.int8)
    codes[1::2] = low
    run = open_model(linear_model(build, weight_format, codes, np.ones(18, np.float32)), isa)
    x = np.full((5, in_features), 3.5, np.float32)
    x[1] = -3.5
    x[2, ::2] = -3.5
    y = run(x=x)["y"]
    assert np.array_equal(y, reference.linear(x, codes, np.ones(18, np.float32)))
    # every product has the extreme 127 * limit: the sum itself, not only agreement with the reference
    assert y[0, 0] == np.float32(in_features * 127 * limit) * (np.float32(3.5) / np.float32(127))


@pytest.mark.parametrize("has_zero", [False, True])
@pytest.mark.parametrize("size", [32, 64, 128, 160])
@pytest.mark.parametrize("weight_format", GROUPED)
def test_groups_equal_the_reference_bit_for_bit(weight_format, size, has_zero, isa, build, open_model, rng):
    for out_features, in_features in [(1, 1), (17, 31), (33, 65), (47, 320), (70, 333)]:
        codes = random_codes(rng, weight_format, (out_features, in_features))
        scale, bias = (rng.normal(size=out_features).astype(np.float32) for _ in range(2))
        groups = random_groups(rng, weight_format, codes.shape, size, has_zero)
        path = linear_model(build, weight_format, codes, scale, bias, residual=True, groups=groups)
        run, numpy = open_model(path, isa), open_model(path, "numpy")
        for rows in (1, 2, 13):
            x, residual = (rng.normal(size=(rows, n)).astype(np.float32) for n in codes.shape[::-1])
            expected = reference.linear(x, codes, scale, bias, residual, groups=groups)
            assert np.array_equal(numpy(x=x, residual=residual)["y"], expected)
            assert np.array_equal(run(x=x, residual=residual)["y"], expected), (out_features, in_features, rows)


def test_the_whole_range_of_float16_scales(isa, build, open_model, rng):
    codes = random_codes(rng, WeightFormat.INT4, (16, 96))
    scale = np.array([2.0**-24, 2.0**-15, 2.0**-14, 1.0, 65504.0, 0.0] * 8, np.float16).reshape(16, 3)
    groups = Groups(32, scale)
    run = open_model(linear_model(build, WeightFormat.INT4, codes, np.ones(16, np.float32), groups=groups), isa)
    x = rng.normal(size=(3, 96)).astype(np.float32)
    assert np.array_equal(run(x=x)["y"], reference.linear(x, codes, np.ones(16, np.float32), groups=groups))


@pytest.mark.parametrize("activation", list(Activation))
def test_activation_bias_and_residual(activation, isa, build, open_model, rng):
    codes = random_codes(rng, WeightFormat.TERNARY, (37, 50))
    scale, bias = (rng.normal(size=37).astype(np.float32) for _ in range(2))
    run = open_model(linear_model(build, WeightFormat.TERNARY, codes, scale, bias, activation, residual=True), isa)
    x, residual = rng.normal(size=(6, 50)).astype(np.float32), rng.normal(size=(6, 37)).astype(np.float32)
    expected = reference.linear(x, codes, scale, bias, residual, activation)
    np.testing.assert_allclose(run(x=x, residual=residual)["y"], expected, rtol=2e-6, atol=2e-6)


def normed_model(build, kind, weight_format, codes, groups, vectors, fused):
    """A norm and a Linear, with a residual: one operator, or two."""
    out_features, in_features = codes.shape
    attributes = Linear(
        weight_format,
        in_features,
        out_features,
        has_residual=1,
        group_size=0 if groups is None else groups.size,
        norm_kind=kind if fused else 0,
        norm_epsilon=1e-5 if fused else 0.0,
    )

    def describe(graph):
        x, residual = graph.input("x", (-1, in_features)), graph.input("residual", (-1, out_features))
        arrays = [pack(codes, weight_format).data, np.ones(out_features, np.float32)]
        arrays += [] if groups is None else groups.packed()
        weights = [graph.constant(f"c{i}", array) for i, array in enumerate(arrays)]
        norm = [graph.constant(f"n{i}", vector) for i, vector in enumerate(vectors)]
        normed = x if fused else graph.custom(Norm(kind, in_features, 1e-5), [x, *norm], "normed", (-1, in_features))
        inputs = [normed, *weights, residual, *(norm if fused else [])]
        return {"x": x, "residual": residual}, {"y": graph.custom(attributes, inputs, "y", (-1, out_features))}

    return build(describe)


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("kind", list(NormKind))
def test_a_norm_inside_gives_the_bits_of_a_norm_before(kind, group, isa, build, open_model, rng):
    weight_format = WeightFormat.INT4 if group else WeightFormat.TERNARY
    for out_features, in_features in [(1, 1), (17, 31), (33, 65), (47, 320), (70, 333)]:
        codes = random_codes(rng, weight_format, (out_features, in_features))
        groups = random_groups(rng, weight_format, codes.shape, group, False) if group else None
        vectors = [rng.normal(size=in_features).astype(np.float32) for _ in range(2 if kind == NormKind.LAYER else 1)]
        one, two = (normed_model(build, kind, weight_format, codes, groups, vectors, fused) for fused in (True, False))
        for rows in (1, 3, 14):
            x = rng.normal(2, 3, (rows, in_features)).astype(np.float32)
            x[0] = 0
            inputs = {"x": x, "residual": rng.normal(size=(rows, out_features)).astype(np.float32)}
            for which in (isa, "numpy"):
                got, expected = (open_model(path, which)(**inputs)["y"] for path in (one, two))
                assert np.array_equal(got, expected), (which, out_features, in_features, rows)


def test_a_norm_of_rows_that_are_not_finite_stays_in_its_row(isa, build, open_model, rng):
    codes = random_codes(rng, WeightFormat.BINARY, (20, 33))
    vectors = [rng.normal(size=33).astype(np.float32) for _ in range(2)]
    paths = [normed_model(build, NormKind.LAYER, WeightFormat.BINARY, codes, None, vectors, fused) for fused in (1, 0)]
    x = rng.normal(size=(4, 33)).astype(np.float32)
    x[1, 5], x[2, 7] = np.inf, np.nan
    inputs = {"x": x, "residual": np.zeros((4, 20), np.float32)}
    got, expected = (open_model(path, isa)(**inputs)["y"] for path in paths)
    assert np.array_equal(got, expected, equal_nan=True)


def test_instruction_sets_and_threads_agree_bit_for_bit(build, open_model, operators, rng):
    codes = random_codes(rng, WeightFormat.TERNARY, (250, 321))
    scale, bias = (rng.normal(size=250).astype(np.float32) for _ in range(2))
    path = linear_model(build, WeightFormat.TERNARY, codes, scale, bias, Activation.GELU_TANH)
    x = rng.normal(size=(50, 321)).astype(np.float32) * 10
    results = [open_model(path, isa, threads)(x=x)["y"] for isa in operators.info.available_isas for threads in (1, 3)]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_a_row_does_not_depend_on_the_others(isa, build, open_model, rng):
    codes = random_codes(rng, WeightFormat.TERNARY, (40, 96))
    run = open_model(linear_model(build, WeightFormat.TERNARY, codes, np.ones(40, np.float32)), isa)
    x = rng.normal(size=(29, 96)).astype(np.float32)
    together = run(x=x)["y"]
    for rows in (slice(0, 1), slice(3, 8), slice(28, 29)):
        assert np.array_equal(run(x=x[rows])["y"], together[rows])


def test_rows_that_cannot_be_scaled_give_zero_and_nan_stays_in_its_row(isa, build, open_model, rng):
    codes = random_codes(rng, WeightFormat.INT8, (5, 20))
    run = open_model(linear_model(build, WeightFormat.INT8, codes, np.ones(5, np.float32)), isa)
    x = rng.normal(size=(4, 20)).astype(np.float32)
    x[0] = 0
    x[1] = 1e-41  # 127 / amax overflows
    x[2, 3] = np.nan
    y = run(x=x)["y"]
    assert not y[:2].any()
    assert np.array_equal(y[3], reference.linear(x[3:], codes, np.ones(5, np.float32))[0])


def test_rounding_is_half_to_even(isa, build, open_model):
    codes = np.eye(5, dtype=np.int8)
    run = open_model(linear_model(build, WeightFormat.INT8, codes, np.ones(5, np.float32)), isa)
    y = run(x=np.array([[127, 0.5, 1.5, -2.5, 3.5]], np.float32))["y"]
    assert y.tolist() == [[127, 0, 2, -2, 4]]


def test_no_rows_at_all(isa, build, open_model):
    path = linear_model(build, WeightFormat.TERNARY, np.ones((5, 20), np.int8), np.ones(5, np.float32))
    for which in (isa, "numpy"):
        assert open_model(path, which)(x=np.zeros((0, 20), np.float32))["y"].shape == (0, 5)
