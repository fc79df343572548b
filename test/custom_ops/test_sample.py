# SPDX-License-Identifier: Apache-2.0
"""The choice of the next token in the real runtime, every instruction set, against NumPy."""

import numpy as np
import pytest

from custom_ops.spec import Sample

ROWS = 5


@pytest.fixture
def sample(build, open_model, isa):
    """sample(logits, temperature, top_k, seed, engine=isa) -> (token ids, log-probabilities)."""

    def run(logits, temperature=0.0, top_k=0, seed=0, engine=isa, first=7):
        vocabulary = logits.shape[1]

        def describe(graph):
            inputs = {"logits": graph.input("logits", (-1, vocabulary)), "at": graph.input("at", (-1,), np.int32)}
            inputs["heat"], inputs["choice"] = graph.input("heat", (1,)), graph.input("choice", (2,), np.int32)
            return inputs, {"y": graph.custom(Sample(vocabulary), list(inputs.values()), "next", (-1, 2))}

        positions = np.arange(first, first + len(logits), dtype=np.int32)
        heat, choice = np.array([temperature], np.float32), np.array([top_k, seed], np.int32)
        y = open_model(build(describe), engine)(logits=logits, at=positions, heat=heat, choice=choice)["y"]
        return y[:, 0].astype(int), y[:, 1]

    return run


@pytest.mark.parametrize("vocabulary", [1, 7, 16, 75, 513, 2000])
@pytest.mark.parametrize(("temperature", "top_k"), [(0.0, 0), (0.7, 0), (1.0, 3), (2.0, 10**6)])
def test_tokens_are_those_of_numpy(temperature, top_k, vocabulary, sample, rng):
    logits = rng.normal(0, 3, (ROWS, vocabulary)).astype(np.float32)
    tokens, log_probabilities = sample(logits, temperature, top_k, 42)
    expected = sample(logits, temperature, top_k, 42, "numpy")
    assert np.array_equal(tokens, expected[0])
    np.testing.assert_allclose(log_probabilities, expected[1], rtol=1e-5, atol=1e-5)


def test_the_first_of_equal_logits_is_taken(sample):
    logits = np.zeros((2, 1200), np.float32)
    logits[0, [700, 1100]] = logits[1, [3, 4]] = 1
    assert sample(logits)[0].tolist() == [700, 3]


def test_draws_follow_the_probabilities_and_the_seed(sample, rng):
    logits = np.tile(np.log(np.array([0.1, 0.6, 0.3], np.float32)), (3000, 1))
    tokens, log_probabilities = sample(logits, 1.0)
    assert np.abs(np.bincount(tokens, minlength=3) / 3000 - [0.1, 0.6, 0.3]).max() < 0.03
    np.testing.assert_allclose(np.exp(log_probabilities), np.array([0.1, 0.6, 0.3])[tokens], rtol=1e-5)
    assert np.array_equal(sample(logits, 1.0)[0], tokens)
    assert not np.array_equal(sample(logits, 1.0, seed=1)[0], tokens)
    assert np.array_equal(sample(logits[5:], 1.0, first=12)[0], tokens[5:])  # by position, not by row
    assert set(sample(logits, 1.0, top_k=2)[0]) == {1, 2}


@pytest.mark.parametrize(("temperature", "top_k"), [(-1.0, 0), (np.nan, 0), (np.inf, 0), (1.0, -1)])
def test_absurd_settings_are_refused(temperature, top_k, sample):
    with pytest.raises(RuntimeError, match="EdgeVlmSample.*'next'.*neither may be negative or infinite"):
        sample(np.zeros((1, 4), np.float32), temperature, top_k)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_still_give_a_token(value, sample):
    tokens, _ = sample(np.full((1, 40), value, np.float32))
    assert 0 <= tokens[0] < 40
