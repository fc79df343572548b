# SPDX-License-Identifier: Apache-2.0
"""The quantizers against known errors, and against brute force."""

import numpy as np
import pytest

from offline_compress.errors import QuantizeError
from offline_compress.quantize.binary import binary
from offline_compress.quantize.int8 import int8
from offline_compress.quantize.ternary import ternary_absmean, ternary_kmeans, ternary_twn

QUANTIZERS = [ternary_kmeans, ternary_twn, ternary_absmean, binary, int8]
KNOWN_ERRORS = [
    (ternary_kmeans, 0.1906, 0.265),
    (ternary_twn, 0.1907, 1 - np.exp(-0.7) * 1.7**2 / 2),
    (ternary_absmean, 0.2635, 0.394),
    (binary, 0.363, 0.500),
]


@pytest.mark.parametrize("quantizer, gaussian, laplace", KNOWN_ERRORS)
def test_relative_error_on_known_distributions(quantizer, gaussian, laplace):
    rng = np.random.default_rng(7)
    assert quantizer(rng.normal(size=(16, 60000))).relative_error == pytest.approx(gaussian, abs=0.002)
    assert quantizer(rng.laplace(size=(16, 60000))).relative_error == pytest.approx(laplace, abs=0.004)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_error_is_that_of_codes_and_scale(quantizer):
    weight = np.random.default_rng(1).normal(size=(5, 37)).astype(np.float32)
    result = quantizer(weight)
    rebuilt = result.codes * result.scale[:, None]
    assert result.codes.dtype == np.int8 and result.scale.dtype == np.float32
    assert result.relative_error == pytest.approx(np.sum((weight - rebuilt) ** 2) / np.sum(weight**2), rel=1e-5)


def test_kmeans_comes_close_to_the_best_threshold():
    weight = np.random.default_rng(3).normal(size=(1, 400))
    magnitude = np.sort(np.abs(weight[0]))[::-1]
    kept = np.cumsum(magnitude) ** 2 / np.arange(1, magnitude.size + 1)  # energy explained by the k largest
    best = 1 - kept.max() / np.sum(magnitude**2)
    assert ternary_kmeans(weight).relative_error <= best * 1.01


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_row_of_zeros_stays_zero(quantizer):
    weight = np.random.default_rng(2).normal(size=(3, 20))
    weight[1] = 0
    result = quantizer(weight)
    assert result.scale[1] == 0
    assert not (result.codes * result.scale[:, None])[1].any()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused_by_name(quantizer, value):
    weight = np.ones((2, 4))
    weight[1, 2] = value
    with pytest.raises(QuantizeError, match="blocks.3.fc1: 1 of 8 weights"):
        quantizer(weight, "blocks.3.fc1")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_all_zero_is_refused_by_name(quantizer):
    with pytest.raises(QuantizeError, match="blocks.3.fc1: all weights are zero"):
        quantizer(np.zeros((2, 4)), "blocks.3.fc1")


def test_int8_error_is_small_and_codes_symmetric():
    result = int8(np.random.default_rng(5).normal(size=(8, 500)))
    assert result.relative_error < 1e-3
    assert np.abs(result.codes).max() == 127
