# SPDX-License-Identifier: Apache-2.0
"""The solvers against each other, against least squares and against the row quantizers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.quantize.binary import binary  # noqa: E402
from offline_compress.quantize.grids import Grid  # noqa: E402
from offline_compress.quantize.solvers import solve, towards_float  # noqa: E402
from offline_compress.quantize.ternary import ternary_absmean, ternary_kmeans, ternary_twn  # noqa: E402
from offline_compress.saliency.statistics import InputStatistics, clipped_to_mean_one  # noqa: E402

ROWS, COLUMNS, TOKENS = 24, 40, 400
GRIDS = [
    Grid("ternary"),
    Grid("binary"),
    Grid("integer", 2, group=16),
    Grid("integer", 3, group=16),
    Grid("integer", 3, symmetric=False, group=16),
    Grid("integer", 4, symmetric=False),
]


def layer(seed=0):
    """Weight (N, K), correlated inputs (tokens, K)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    mixing = torch.randn(COLUMNS // 4, COLUMNS, generator=generator)
    inputs = torch.randn(TOKENS, COLUMNS // 4, generator=generator) @ mixing
    return weight, inputs + 0.3 * torch.randn(TOKENS, COLUMNS, generator=generator)


def statistics(inputs, *arguments):
    result = InputStatistics("layer", COLUMNS)
    result.add(inputs, *arguments)
    return result


def output_error(weight, result, inputs):
    wanted = inputs.double() @ weight.double().T
    return float((inputs.double() @ result.dequantised().T - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_gptq_beats_rounding_under_the_hessian(grid):
    weight, inputs = layer()
    known = statistics(inputs)
    plain, better = solve(weight, grid, known), solve(weight, grid, known, "gptq")
    assert better.output_error < plain.output_error
    for result in (plain, better):
        assert result.output_error == pytest.approx(output_error(weight, result, inputs), rel=1e-4)


@pytest.mark.parametrize("rule, rows", [("kmeans", ternary_kmeans), ("absmean", ternary_absmean), ("twn", ternary_twn)])
def test_rounding_to_ternary_is_the_row_quantizer(rule, rows):
    weight, _ = layer()
    result, expected = solve(weight, Grid("ternary", rule=rule)), rows(weight.numpy())
    np.testing.assert_array_equal(result.codes.numpy(), expected.codes)
    np.testing.assert_allclose(result.scale[:, 0].numpy(), expected.scale, rtol=1e-6)
    assert result.weight_error == pytest.approx(expected.relative_error, rel=1e-5)


def test_rounding_to_binary_is_the_row_quantizer():
    weight, _ = layer()
    np.testing.assert_array_equal(solve(weight, Grid("binary")).codes.numpy(), binary(weight.numpy()).codes)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("solver", ["rtn", "gptq", "gptaq"])
def test_saliency_of_one_changes_nothing(grid, solver):
    weight, inputs = layer()
    same = solve(weight, grid, statistics(inputs, torch.ones(TOKENS)), solver)
    assert torch.equal(solve(weight, grid, statistics(inputs), solver).codes, same.codes)


def test_salient_tokens_are_served_better():
    weight, inputs = layer()
    saliency = torch.where(torch.arange(TOKENS) < 40, 20.0, 0.05)
    plain = solve(weight, Grid("ternary"), statistics(inputs), "gptq")
    weighted = solve(weight, Grid("ternary"), statistics(inputs, saliency), "gptq")
    assert output_error(weight, weighted, inputs[:40]) < output_error(weight, plain, inputs[:40])


def test_gptq_with_independent_inputs_is_rounding():
    weight, _ = layer()
    known = InputStatistics("layer", COLUMNS)
    known.add(torch.eye(COLUMNS))
    grid = Grid("integer", 3, group=8)
    assert torch.equal(solve(weight, grid, known, "gptq").codes, solve(weight, grid, known).codes)


def test_gptaq_aims_at_the_float_output():
    weight, inputs = layer()
    wanted_inputs = inputs + 0.3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(9))
    known = statistics(inputs, None, wanted_inputs)
    wanted = wanted_inputs.double() @ weight.double().T

    def error(solver):
        value = solve(weight, Grid("integer", 4), known, solver).dequantised()
        return float((inputs.double() @ value.T - wanted).square().sum())

    assert error("gptaq") < error("gptq")


def test_target_of_gptaq_is_least_squares():
    weight, _ = layer()
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(TOKENS, COLUMNS, generator=generator)
    mixing = torch.randn(COLUMNS, COLUMNS, generator=generator)
    known = statistics(inputs, None, inputs + 0.1 * inputs @ mixing)
    target = towards_float(weight.double(), known.hessian, known.shift)
    wanted = weight + 0.1 * weight @ mixing.T
    assert (target - wanted).norm() < 0.02 * (weight - wanted).norm()


@pytest.mark.parametrize("bits, symmetric", [(2, True), (3, True), (4, True), (2, False), (3, False), (4, False)])
def test_integer_codes_stay_in_range_and_more_bits_err_less(bits, symmetric):
    weight, _ = layer()
    grid = Grid("integer", bits, symmetric, group=16)
    result = solve(weight, grid)
    assert grid.limits[0] <= result.codes.min() and result.codes.max() <= grid.limits[1]
    assert result.weight_error < {2: 0.15, 3: 0.04, 4: 0.012}[bits]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("solver", ["rtn", "gptq"])
def test_zero_rows_and_dead_inputs(grid, solver):
    weight, inputs = layer()
    weight[3], inputs[:, 5] = 0, 0
    value = solve(weight, grid, statistics(inputs), solver).dequantised()
    assert torch.isfinite(value).all() and not value[3].any()


def test_bad_input_is_refused_by_name():
    weight, inputs = layer()
    spoiled = inputs.clone()
    spoiled[7, 2] = torch.inf
    with pytest.raises(QuantizeError, match="layer: its inputs are not finite"):
        statistics(spoiled)
    with pytest.raises(QuantizeError, match="layer: saliency of 3 values for 400 tokens"):
        statistics(inputs, torch.ones(3))
    with pytest.raises(QuantizeError, match="statistics of 0 tokens"):
        solve(weight, GRIDS[0], InputStatistics("layer", COLUMNS), "gptq")
    with pytest.raises(QuantizeError, match="gptq needs statistics"):
        solve(weight, GRIDS[0], None, "gptq")
    with pytest.raises(QuantizeError, match="no solver named 'best'"):
        solve(weight, GRIDS[0], None, "best")
    with pytest.raises(QuantizeError, match="layer: all weights are zero"):
        solve(torch.zeros(2, COLUMNS), GRIDS[0], statistics(inputs), "gptq")
    with pytest.raises(QuantizeError, match="9 bits"):
        Grid("integer", 9)


def test_saliency_is_clipped_and_has_mean_one():
    saliency = torch.cat([torch.rand(1000), torch.tensor([1e6])])
    clipped = clipped_to_mean_one(saliency)
    assert clipped.mean() == pytest.approx(1, abs=1e-5) and clipped.max() < 5
    assert torch.equal(clipped_to_mean_one(torch.zeros(4)), torch.ones(4))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_descent_lowers_the_output_error_that_gptq_leaves(grid):
    weight, inputs = layer()
    known = statistics(inputs)
    gptq, better = solve(weight, grid, known, "gptq"), solve(weight, grid, known, "descent")
    assert better.output_error < 0.98 * gptq.output_error
    assert better.output_error == pytest.approx(output_error(weight, better, inputs), rel=1e-4)
    low, high = grid.limits
    assert better.codes.min() >= low and better.codes.max() <= high and (better.scale > 0).all()
    again = solve(weight, grid, known, "descent")
    assert torch.equal(again.codes, better.codes) and torch.equal(again.scale, better.scale)


def test_descent_changes_nothing_where_nothing_can_be_gained():
    weight = torch.tensor([[1.0, -1.0, 0.0, 1.0]] * 3) * torch.tensor([[0.5], [2.0], [3.0]])
    known = InputStatistics("layer", 4)
    known.add(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    result = solve(weight, Grid("ternary"), known, "descent")
    torch.testing.assert_close(result.dequantised(), weight.double())


def test_descent_leaves_rows_of_zeros_alone():
    weight, inputs = layer()
    weight[3] = 0
    result = solve(weight, Grid("ternary"), statistics(inputs), "descent")
    assert (result.dequantised()[3] == 0).all() and torch.isfinite(result.dequantised()).all()
