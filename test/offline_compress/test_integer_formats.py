# SPDX-License-Identifier: Apache-2.0
"""INT2, INT3 and INT4 in groups, from rounding to the file: operators multiply by the weights that were reported."""

import numpy as np
import pytest

pytest.importorskip("torch")

from custom_ops.executor import NumpyInterpreter  # noqa: E402
from custom_ops.library import load_operators  # noqa: E402
from custom_ops.packing import Groups  # noqa: E402
from custom_ops.spec import WeightFormat  # noqa: E402
from offline_compress.errors import ExportError  # noqa: E402
from offline_compress.export.graph_builder import ModelBuilder  # noqa: E402
from offline_compress.export.weights import LinearWeights, ModelWeights  # noqa: E402
from offline_compress.quantize.formats import METHODS, stored_bytes  # noqa: E402
from offline_compress.quantize.plan import Plan, Rule  # noqa: E402
from offline_compress.quantize.report import quantise_weights  # noqa: E402

RNG = np.random.default_rng(5)
INTEGERS = [name for name in METHODS if name.startswith(("int2", "int3", "int4"))]


def quantised(name, weight):
    linears = {"a": LinearWeights.of_float(weight, np.ones(len(weight), np.float32))}
    table = Plan("mine", (Rule(".*", name),)).resolve(linears)
    results, rows = quantise_weights(ModelWeights({}, linears, {}), table)
    return results["a"], rows[0]


@pytest.mark.parametrize("name", INTEGERS)
def test_the_file_multiplies_by_the_weights_that_were_reported(name, tmp_path):
    weight = RNG.laplace(size=(21, 150)).astype(np.float32) + (0.5 if "asym" in name else 0)
    weights, row = quantised(name, weight)
    error = np.square(weight - weights.dequantised()).sum() / np.square(weight).sum()
    assert row.relative_error == pytest.approx(error, abs=1e-5)
    assert error < {"int2": 0.25, "int3": 0.08, "int4": 0.02}[name[:4]]
    model = ModelBuilder("one matrix")
    graph = model.graph("run")
    graph.finish(y=graph.linear(graph.input("x", (-1, 150), np.float32), weights))
    model.save(tmp_path / "m.tflite")
    stored = sum(array.nbytes for array in model.pack(weights))
    assert row.bytes == stored == stored_bytes(weights.format, 21, 150, True, METHODS[name].group, "asym" in name)
    x = RNG.integers(-127, 128, (3, 150)).astype(np.float32)
    x[:, 0] = 127  # codes of the activations are the activations
    interpreter = load_operators().interpreter(tmp_path / "m.tflite")
    for which in (interpreter, NumpyInterpreter(tmp_path / "m.tflite")):
        y = which.get_signature_runner("run")(x=x)["y"]
        np.testing.assert_allclose(y, x @ weights.dequantised().T + 1, rtol=1e-4, atol=1e-2)


def test_more_bits_smaller_groups_and_zero_points_lose_less():
    weight = RNG.laplace(size=(32, 256)).astype(np.float32) + 0.4
    error = {name: quantised(name, weight)[1].relative_error for name in INTEGERS}
    for bits in (2, 3, 4):
        assert error[f"int{bits}-g32"] < error[f"int{bits}-g128"]
        assert error[f"int{bits}-g32-asym"] < error[f"int{bits}-g32"]
    assert error["int4-g32"] < error["int3-g32"] < error["int2-g32"]


def test_ternary_at_1_6_bits_is_a_fifth_smaller_and_computes_the_same(tmp_path):
    weights = LinearWeights(
        WeightFormat.TERNARY, RNG.integers(-1, 2, (48, 320)).astype(np.int8), np.ones(48, np.float32)
    )
    results, sizes = [], []
    for dense in (False, True):
        model = ModelBuilder("one matrix", dense)
        graph = model.graph("run")
        graph.finish(y=graph.linear(graph.input("x", (-1, 320), np.float32), weights))
        model.save(tmp_path / "m.tflite")
        sizes.append(model.pack(weights)[0].nbytes)
        run = load_operators().interpreter(tmp_path / "m.tflite").get_signature_runner("run")
        results.append(run(x=np.linspace(-1, 1, 5 * 320, dtype=np.float32).reshape(5, 320))["y"])
    assert sizes[1] == 0.8 * sizes[0] and np.array_equal(*results)


def test_matrices_of_one_operator_are_stacked():
    symmetric, _ = quantised("int4-g32", RNG.normal(size=(5, 64)))
    shifted, _ = quantised("int4-g32-asym", RNG.normal(size=(7, 64)))
    stacked = symmetric.stacked_on([shifted])
    assert np.array_equal(stacked.dequantised(), np.concatenate([symmetric.dequantised(), shifted.dequantised()]))
    with pytest.raises(ExportError, match="different formats"):
        symmetric.stacked_on([quantised("int4-g64", RNG.normal(size=(5, 64)))[0]])


def test_scales_of_any_magnitude_survive_float16():
    scale = 10.0 ** RNG.uniform(-9, -8, (6, 4))
    codes = np.ones((6, 128), np.int8)
    weights = LinearWeights.of_groups(WeightFormat.INT4, codes, scale, None, 32)
    np.testing.assert_allclose(weights.dequantised(), np.repeat(scale, 32, axis=1), rtol=1e-3)


@pytest.mark.parametrize(
    ("weight_format", "groups", "message"),
    [
        (WeightFormat.INT8, Groups(32, np.ones((4, 2), np.float16)), "INT8 in groups of 32"),
        (WeightFormat.INT4, Groups(48, np.ones((4, 2), np.float16)), "INT4 in groups of 48"),
        (WeightFormat.INT4, Groups(32, np.ones((4, 3), np.float16)), "group scale is float16"),
        (WeightFormat.INT4, Groups(32, np.ones((4, 2), np.float16), np.zeros((4, 2))), "group zero is float64"),
    ],
)
def test_groups_that_do_not_fit_are_refused(weight_format, groups, message):
    with pytest.raises(ExportError, match=message):
        LinearWeights(weight_format, np.ones((4, 64), np.int8), np.ones(4, np.float32), None, groups)
