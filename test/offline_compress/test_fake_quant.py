# SPDX-License-Identifier: Apache-2.0
"""Fake-quantised modules: the operators' arithmetic, straight-through gradients, what is handed to export."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import tiny_batch, tiny_vlm  # noqa: E402

from custom_ops.spec import WeightFormat  # noqa: E402
from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.export.module_names import linear_names  # noqa: E402
from offline_compress.quantize.binary import binary  # noqa: E402
from offline_compress.quantize.fake_quant import Int8Embedding, Int8Linear, LowBitLinear  # noqa: E402
from offline_compress.quantize.plan import Plan, Rule, default_plan  # noqa: E402
from offline_compress.quantize.replace import quantise_model, to_model_weights  # noqa: E402
from offline_compress.quantize.ternary import ternary_absmean, ternary_kmeans, ternary_twn  # noqa: E402


def random_linear(quantizer, out_features=19, in_features=37, seed=0):
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.normal(size=(out_features, in_features)).astype(np.float32))
    bias = torch.from_numpy(rng.normal(size=out_features).astype(np.float32))
    if quantizer is None:
        return Int8Linear(weight, bias), weight
    weight_format = WeightFormat.BINARY if quantizer is binary else WeightFormat.TERNARY
    return LowBitLinear(weight, quantizer(weight.numpy()), bias, weight_format), weight


def integer_product(x, weights):
    """The operators' contract in plain NumPy: int8 activations per row, int32 sum, one float step at the end."""
    amax = np.abs(x).max(axis=1, keepdims=True)
    inverse = np.divide(np.float32(127), amax, out=np.zeros_like(amax), where=amax > 0)
    q = np.clip(np.rint(x * inverse), -127, 127).astype(np.int32)
    acc = q @ weights.codes.astype(np.int32).T
    return acc.astype(np.float32) * ((amax / np.float32(127)) * weights.scale[None, :]) + weights.bias


@pytest.mark.parametrize("quantizer", [ternary_kmeans, binary, None])
def test_exact_path_equals_the_integer_arithmetic(quantizer):
    linear, _ = random_linear(quantizer)
    x = np.random.default_rng(1).normal(size=(23, 37)).astype(np.float32)
    x[4] = 0  # amax == 0
    with torch.no_grad():
        y = linear.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(y, integer_product(x, linear.to_weights()))


def test_exact_path_holds_beyond_float32_integers():
    linear, _ = random_linear(None, in_features=2000)
    linear.weight.data.fill_(1.0)
    x = np.ones((1, 2000), np.float32)
    with torch.no_grad():
        y = linear.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(y, integer_product(x, linear.to_weights()))


@pytest.mark.parametrize("quantizer", [ternary_kmeans, binary, None])
def test_training_path_agrees_with_the_exact_one(quantizer):
    linear, _ = random_linear(quantizer)
    x = torch.randn(23, 37, generator=torch.Generator().manual_seed(2))
    exact = linear.eval()(x)
    trained = linear.train()(x)
    assert trained.requires_grad and torch.allclose(trained, exact, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(linear(x).float(), exact, atol=0.05 * exact.abs().max().item())


@pytest.mark.parametrize("quantizer", [ternary_kmeans, ternary_twn, ternary_absmean, binary])
def test_training_starts_from_the_quantizers_codes(quantizer):
    linear, weight = random_linear(quantizer)
    start, weights = quantizer(weight.numpy()), linear.to_weights()
    np.testing.assert_array_equal(weights.codes, start.codes)
    np.testing.assert_array_equal(weights.scale, start.scale)
    assert linear.latent.abs().max() <= 1


@pytest.mark.parametrize("quantizer", [ternary_kmeans, binary])
def test_gradients_are_straight_through(quantizer):
    linear, _ = random_linear(quantizer)
    x = torch.randn(5, 37, generator=torch.Generator().manual_seed(3), requires_grad=True)
    seen = torch.randn(5, 19, generator=torch.Generator().manual_seed(4))
    (linear.train()(x) * seen).sum().backward()
    codes, scale = linear.codes_and_scale()
    amax = x.detach().abs().amax(1, keepdim=True)
    rounded = (x.detach() * (127 / amax)).round() * (amax / 127)
    by_weight = seen.T @ rounded  # gradient of the dequantised weight
    assert torch.allclose(linear.latent.grad, by_weight * scale[:, None], atol=1e-4)
    assert torch.allclose(linear.scale.grad, (by_weight * codes).sum(1), atol=1e-3)
    assert torch.allclose(linear.bias.grad, seen.sum(0), atol=1e-5)
    assert torch.allclose(x.grad, seen @ (codes * scale[:, None]), atol=1e-4)


def test_latent_is_clipped():
    linear, _ = random_linear(ternary_kmeans)
    linear.latent.data.mul_(5)
    linear.clip_latent()
    assert linear.latent.min() == -1 and linear.latent.max() == 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", ["ternary", "binary"])
def test_whole_model_hands_over_what_it_computes_with(method, tied):
    model = tiny_vlm(tied=tied)
    config = model.config.to_dict()
    plan = default_plan(config, method, tied)
    reports = quantise_model(model, plan.resolve(linear_names(config, tied)))
    weights = to_model_weights(model, config)
    assert [row.name for row in reports] == list(weights.linears)
    assert weights.tied == tied
    formats = {line.name: line.method.format for line in plan.resolve(linear_names(config, tied))}
    assert {name: matrix.format for name, matrix in weights.linears.items()} == formats
    assert not any("_proj" in name or "latent" in name or "embed_tokens" in name for name in weights.tensors)
    assert any(name.endswith("position_embedding.weight") for name in weights.tensors)
    assert np.isfinite(logits(model)).all()


def test_int8_model_is_near_the_float_one():
    """The modules sit where the float ones sat, embeddings and patch convolution included."""
    model, reference = tiny_vlm(), logits(tiny_vlm())
    names = linear_names(model.config.to_dict(), True)
    quantise_model(model, Plan("int8", (Rule(".*", "int8"),)).resolve(names))
    assert np.square(logits(model) - reference).mean() < 0.01 * np.square(reference).mean()
    assert isinstance(model.get_input_embeddings(), Int8Embedding)
    assert model.get_input_embeddings().weight is model.lm_head.weight


def logits(model):
    batch = tiny_batch()
    with torch.no_grad():
        return model.eval()(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"]).logits.numpy()


def test_quantising_twice_is_refused():
    model = tiny_vlm()
    table = default_plan(model.config.to_dict(), "ternary").resolve(linear_names(model.config.to_dict()))
    quantise_model(model, table)
    with pytest.raises(QuantizeError, match="quantised already"):
        quantise_model(model, table)


def test_a_ternary_head_is_refused_by_name():
    model = tiny_vlm()
    names = linear_names(model.config.to_dict())
    with pytest.raises(QuantizeError, match="lm_head: token tables and the head are trained as int8"):
        quantise_model(model, Plan("all", (Rule(".*", "ternary"),)).resolve(names))


def test_damaged_weights_are_refused_by_name():
    model = tiny_vlm()
    with torch.no_grad():
        model.model.text_model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    table = default_plan(model.config.to_dict(), "ternary").resolve(linear_names(model.config.to_dict()))
    with pytest.raises(QuantizeError, match=r"model.text_model.layers.1.mlp.up_proj: 1 of"):
        quantise_model(model, table)
