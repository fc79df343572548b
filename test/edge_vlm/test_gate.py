# SPDX-License-Identifier: Apache-2.0
"""Gate policies, alone and together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vlm.errors import BundleError
from edge_vlm.sttf import Gate, SttfConfig, TokenState
from edge_vlm.sttf.gate import AgeLimit, Budget, Dilation, HysteresisThreshold
from edge_vlm.sttf.illumination import Light

GRID = (14, 14)
CONFIG = SttfConfig()
DESCRIPTORS = np.zeros((196, 16, 3), np.float32)


def warm_state(stamp_ns=0):
    state = TokenState.of(GRID)
    state.refresh(np.ones(196, bool), DESCRIPTORS, Light(), stamp_ns)
    state.observe(mask(), mask(), mask())
    return state


def mask(*tokens):
    return np.isin(np.arange(196), tokens)


def scores_of(**by_token):
    scores = np.ones(196, np.float32)
    for token, score in by_token.items():
        scores[int(token[1:])] = score
    return scores


def test_hysteresis_starts_high_and_ends_low():
    policy = HysteresisThreshold(on=3.0, off=2.0)
    scores = np.array([2.5, 2.5, 3.0, 1.9])
    before = np.array([False, True, False, True])
    assert policy.changed(scores, before).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("neighbours", "count"), [(0, 1), (4, 5), (8, 9)])
def test_dilation_adds_the_neighbours(neighbours, count):
    spread = Dilation(neighbours).spread(mask(3 * 14 + 4).reshape(GRID))
    assert spread.sum() == count
    assert spread[3, 4]


def test_dilation_stays_inside_the_image():
    assert Dilation(8).spread(mask(0).reshape(GRID)).sum() == 4


def test_budget_takes_the_most_changed_and_those_that_wait():
    wanted = mask(1, 2, 3, 4)
    scores = scores_of(t1=3.0, t2=9.0, t3=4.0, t4=3.5)
    due = np.zeros(196, int)
    assert np.flatnonzero(Budget(2).take(wanted, scores, due)).tolist() == [2, 3]
    due[1] = 5
    assert np.flatnonzero(Budget(2).take(wanted, scores, due)).tolist() == [1, 2]
    assert Budget(0).take(wanted, scores, due) is wanted


def test_old_tokens_wait_for_a_batch_or_for_company():
    policy = AgeLimit(max_age_s=10.0, batch_tokens=3)
    age = np.zeros(196)
    age[:2] = 11.0
    assert policy.expired(age, encoding_anyway=False).sum() == 0
    assert policy.expired(age, encoding_anyway=True).sum() == 2
    age[2] = 10.0
    assert policy.expired(age, encoding_anyway=False).sum() == 3
    assert policy.expired(np.where(age > 0, 20.0, 0.0) * mask(0), encoding_anyway=False).sum() == 1


def test_the_first_frame_is_whole():
    decision = Gate(CONFIG).decide(np.zeros(196), TokenState.of(GRID), 0)
    assert decision.keyframe and decision.active.all() and decision.reason == "first frame"


def test_nothing_changed_computes_nothing():
    decision = Gate(CONFIG).decide(np.ones(196), warm_state(), 1)
    assert not decision.active.any() and not decision.keyframe


def test_threshold_zero_computes_everything():
    config = replace(CONFIG, threshold_on=0.0, threshold_off=0.0)
    decision = Gate(config).decide(np.zeros(196), warm_state(), 1)
    assert decision.keyframe and decision.active.all()


def test_much_change_is_a_keyframe():
    scores = np.where(np.arange(196) < 130, 9.0, 0.0)
    decision = Gate(CONFIG).decide(scores, warm_state(), 1)
    assert decision.keyframe and decision.active.all() and decision.changed.sum() == 130


def test_over_the_budget_the_rest_stays_due_and_comes_next():
    gate, state = Gate(replace(CONFIG, budget_tokens=10, dilation=0, context_share=0.0)), warm_state()
    scores = np.where(np.arange(196) < 25, 9.0, 0.0)
    computed = np.zeros(196, int)
    for frame in range(3):
        decision = gate.decide(np.where(computed > 0, 0.0, scores), state, frame)
        assert decision.active.sum() <= 10
        state.refresh(decision.active, DESCRIPTORS, Light(), frame)
        state.observe(decision.changed, decision.due, decision.active)
        computed += decision.active
    assert (computed[:25] == 1).all() and computed[25:].sum() == 0


def test_shallow_tokens_are_settled_at_full_depth_when_the_scene_is_quiet():
    gate, state = Gate(CONFIG), warm_state()
    state.refresh(mask(5, 6), DESCRIPTORS, Light(), 1, shallow=True)
    for frame in range(CONFIG.settle_frames):
        assert not gate.decide(np.ones(196), state, frame).active.any() or frame >= CONFIG.settle_frames - 1
        state.observe(mask(), mask(), mask())
    decision = gate.decide(np.ones(196), state, 9)
    assert decision.deep_only and np.flatnonzero(decision.active).tolist() == [5, 6]


def move(gate, state, tokens, stamp_ns=1):
    """One frame in which these tokens change."""
    decision = gate.decide(np.where(mask(*tokens), 9.0, 1.0), state, stamp_ns)
    state.refresh(decision.active, DESCRIPTORS, Light(), stamp_ns)
    state.observe(decision.changed, decision.due, decision.active)
    return decision


def rest(gate, state, frames):
    """Quiet frames; the decision of the last one."""
    for _ in range(frames):
        decision = move(gate, state, ())
    return decision


def test_when_the_scene_settles_tokens_with_an_old_context_are_computed():
    gate, state = Gate(CONFIG), warm_state()
    move(gate, state, range(40, 52))
    assert not rest(gate, state, CONFIG.settle_frames).active.any()
    decision = rest(gate, state, 1)
    assert decision.keyframe and "context" in decision.reason
    assert not rest(gate, state, 10).active.any(), "once is enough"


def test_a_small_change_leaves_the_context_alone():
    gate, state = Gate(CONFIG), warm_state()
    move(gate, state, range(3))
    assert not rest(gate, state, 10).active.any()


def test_while_things_move_old_contexts_are_computed_along():
    gate, state = Gate(replace(CONFIG, dilation=0)), warm_state()
    seen = np.zeros(196, bool)
    for _ in range(100):
        decision = move(gate, state, range(40, 52))
        assert 12 <= decision.active.sum() <= 12 + 6
        seen |= decision.active
    assert seen.all()


def test_with_a_budget_settling_takes_several_frames():
    gate, state = Gate(replace(CONFIG, budget_tokens=60)), warm_state()
    move(gate, state, range(40, 60))
    counts = [rest(gate, state, 1).active.sum() for _ in range(10)]
    assert max(counts) == 60 and sum(counts) >= 196 - 60


def test_everything_over_the_age_limit_is_a_keyframe():
    decision = Gate(CONFIG).decide(np.ones(196), warm_state(0), int(CONFIG.max_age_s * 1e9))
    assert decision.keyframe and "age" in decision.reason


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dilation=st.sampled_from([0, 4, 8]), budget=st.integers(0, 196))
def test_what_is_active_or_due_covers_all_that_changed(seed, dilation, budget):
    rng = np.random.default_rng(seed)
    gate = Gate(replace(CONFIG, dilation=dilation, budget_tokens=budget))
    state = warm_state()
    state.was_active = rng.random(196) < 0.2
    decision = gate.decide(rng.exponential(1.5, 196), state, 1)
    assert not (decision.active & decision.due).any()
    assert not (decision.changed & ~(decision.active | decision.due)).any()
    assert decision.keyframe or budget == 0 or decision.active.sum() <= budget


def test_settings_survive_json():
    config = SttfConfig(threshold_on=4.5, budget_tokens=31, dilation=8)
    assert SttfConfig.from_json(config.to_json()) == config
    assert SttfConfig.from_json(None) == SttfConfig()
    assert SttfConfig.from_json({"threshold_on": 5}).threshold_on == 5.0


@pytest.mark.parametrize(
    "values", [{"treshold": 1}, {"threshold_on": 1.0, "threshold_off": 2.0}, {"dilation": 5}, {"max_age_s": "old"}]
)
def test_impossible_settings_are_named(values):
    with pytest.raises(BundleError, match=f"{list(values)[0]}|{list(values.values())[0]}"):
        SttfConfig.from_json(values)


def waiting_state(period_s, waited_frames=0):
    """A warm state whose last frame was ``period_s`` before second 1; token 5 has waited for some frames."""
    state = warm_state()
    state.stamp_ns = round((1 - period_s) * 1e9)
    state.due_frames[5] = waited_frames
    return state


@pytest.mark.parametrize(
    ("period_s", "waited_frames", "computed"),
    [(0.033, 0, False), (0.033, 3, False), (0.033, 4, True), (0.06, 0, False), (0.01, 12, False), (0.01, 14, True)],
)
def test_changes_wait_for_company_as_long_as_the_next_frame_comes_in_time(period_s, waited_frames, computed):
    state = waiting_state(period_s, waited_frames)
    decision = Gate(CONFIG).decide(scores_of(t5=9.0), state, 1_000_000_000)
    assert decision.active[5] == computed
    assert decision.due[5] != computed
    assert computed or "waiting" in decision.reason


@pytest.mark.parametrize("period_s", [0.08, 0.1, 0.5])
def test_nothing_waits_where_frames_come_slowly(period_s):
    assert Gate(CONFIG).decide(scores_of(t5=9.0), waiting_state(period_s), 1_000_000_000).active[5]


def test_nothing_waits_once_much_of_the_picture_does():
    gate, state = Gate(CONFIG), waiting_state(0.033)
    state.was_active = np.arange(196) < 70
    few, many = (np.where(np.arange(196) < count, 9.0, 0.0) for count in (50, 60))
    assert not gate.decide(few, state, 1_000_000_000).active.any()
    assert gate.decide(many, state, 1_000_000_000).active[:60].all()
    state.due_frames[60:100] = 1
    assert gate.decide(few, state, 1_000_000_000).active[60:100].all(), "those that wait count too"


def test_what_waits_is_computed_even_when_it_has_gone_back():
    decision = Gate(CONFIG).decide(np.ones(196), waiting_state(0.033, 1), 1_000_000_000)
    assert decision.active[5]


def test_much_that_is_new_does_not_wait():
    gate, scores = Gate(CONFIG), np.where(np.arange(196) < 20, 9.0, 0.0)
    assert gate.decide(scores, waiting_state(0.033), 1_000_000_000).active[:20].all()
    state = waiting_state(0.033)
    state.was_active = np.arange(196) < 18
    assert not gate.decide(scores, state, 1_000_000_000).active.any(), "it only moved"


def test_context_is_out_of_date_once_what_changed_has_been_computed():
    state = warm_state()
    state.observe(mask(1, 2), mask(1, 2), mask())
    assert (state.context_debt == 0).all()
    state.observe(mask(1, 2), mask(), mask(1, 2))
    assert state.context_debt[0] == pytest.approx(2 / 196) and state.context_debt[1] == 0
