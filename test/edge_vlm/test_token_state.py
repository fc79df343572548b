# SPDX-License-Identifier: Apache-2.0
"""Token state, and when the fused scene asks for a caption."""

import numpy as np
import pytest

from edge_vlm.sttf import TokenState
from edge_vlm.sttf.fusion import CaptionPolicy, NeighbourMerging, scene_distance
from edge_vlm.sttf.illumination import Light

LIGHT = Light(np.full(3, 1.1, np.float32), np.full(3, 2.0, np.float32))


def descriptors(value):
    return np.full((196, 16, 3), value, np.float32)


def test_only_a_whole_deep_frame_makes_the_caches_valid():
    state = TokenState.of((14, 14))
    state.refresh(np.arange(196) < 195, descriptors(1), LIGHT, 0)
    assert not state.valid
    state.refresh(np.ones(196, bool), descriptors(1), LIGHT, 0, shallow=True)
    assert not state.valid
    state.refresh(np.ones(196, bool), descriptors(1), LIGHT, 0)
    assert state.valid


def test_refresh_touches_the_refreshed_tokens_only():
    state = TokenState.of((14, 14))
    state.refresh(np.ones(196, bool), descriptors(1), Light(), 5)
    state.event_evidence += 3
    some = np.arange(196) < 4
    state.refresh(some, descriptors(9), LIGHT, 10)
    assert (state.reference[some] == 9).all() and (state.reference[~some] == 1).all()
    np.testing.assert_allclose(state.light_gain[some], 1.1)
    np.testing.assert_allclose(state.light_gain[~some], 1.0)
    assert (state.event_evidence[some] == 0).all() and (state.event_evidence[~some] == 3).all()
    assert (state.deep_stamp_ns[some] == 10).all() and (state.deep_stamp_ns[~some] == 5).all()


def test_a_shallow_refresh_does_not_make_a_token_young():
    state = TokenState.of((14, 14))
    state.refresh(np.ones(196, bool), descriptors(1), Light(), 0)
    state.refresh(np.arange(196) < 4, descriptors(2), Light(), 4_000_000_000, shallow=True)
    np.testing.assert_allclose(state.age_s(6_000_000_000), 6.0)
    assert state.shallow.sum() == 4


def test_reset_forgets_all_but_its_own_count():
    state = TokenState.of((14, 14))
    state.refresh(np.ones(196, bool), descriptors(1), LIGHT, 7)
    state.features = state.caption_features = np.ones((49, 8))
    state.reset("stamp jumped back")
    state.reset("stamp jumped back")
    assert not state.valid and state.features is None and state.caption_features is None
    assert (state.reference == 0).all() and (state.light_gain == 1).all()
    assert state.resets == {"stamp jumped back": 2}


def test_one_image_token_that_moved_is_seen_among_49():
    before = np.random.default_rng(0).normal(size=(49, 64)).astype(np.float32)
    now = before.copy()
    now[20] *= -1
    assert scene_distance(before, before) == 0.0
    assert scene_distance(before, now) > 0.8
    jitter = before + np.random.default_rng(1).normal(0, 0.02, before.shape).astype(np.float32)
    assert scene_distance(before, jitter) < 0.05


def test_caption_is_decoded_on_movement_and_at_its_age():
    policy = CaptionPolicy(scene_distance=0.3, max_age_s=10.0, min_interval_s=0.5)
    assert policy.reason_to_refresh(0.0, 9.9)[0] is False
    assert policy.reason_to_refresh(0.0, 10.0) == (True, "caption is 10.0 s old")
    assert policy.reason_to_refresh(1.0, 1.0)[0] is True
    waiting, reason = policy.reason_to_refresh(1.0, 0.2)
    assert waiting is False and "minimum interval" in reason


def test_a_caption_age_of_zero_means_never():
    policy = CaptionPolicy(scene_distance=0.3, max_age_s=0.0, min_interval_s=0.0)
    assert policy.reason_to_refresh(0.0, 1e6)[0] is False


def test_half_the_distance_is_enough_once_the_scene_has_settled():
    policy = CaptionPolicy(scene_distance=0.3, max_age_s=0.0, min_interval_s=0.0)
    assert policy.reason_to_refresh(0.2, 1.0)[0] is False
    assert policy.reason_to_refresh(0.2, 1.0, settled=True) == (True, "scene settled (0.20)")


def test_the_scene_moves_away_from_what_its_caption_describes():
    state = TokenState.of((14, 14))
    state.features = np.ones((49, 8), np.float32)
    state.measure_distance()
    state.describe()
    assert state.caption_distance == 0.0
    state.features = state.features.copy()
    state.features[:2] *= 1.2
    state.measure_distance()
    assert state.caption_distance == pytest.approx(0.2)
    state.describe()
    assert state.caption_distance == 0.0


def test_unchanged_neighbours_that_are_alike_become_their_mean():
    features = np.random.default_rng(0).normal(size=(49, 8)).astype(np.float32)
    features[8:12] = features[8] * np.array([1.0, 1.1, 1.0, 1.2], np.float32)[:, None]
    features[20:22] = features[20]  # the end of a row and the beginning of the next
    unchanged = np.ones(49, bool)
    merged = NeighbourMerging(0.99).merge(features, unchanged)
    assert merged.shape == (47, 8)
    np.testing.assert_allclose(merged[8], features[8:10].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(merged[9], features[10:12].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(merged[10:], features[12:])


def test_changed_tokens_are_not_merged_and_nothing_is_unless_asked_for():
    features = np.ones((49, 8), np.float32)
    unchanged = np.arange(49) >= 14
    merged = NeighbourMerging(0.9).merge(features, unchanged)
    assert len(merged) == 14 + 5 * 4, "three pairs and one left over in each row of seven"
    assert NeighbourMerging(2.0).merge(features, unchanged) is features
    assert NeighbourMerging(0.9).merge(features, np.zeros(49, bool)) is features


def test_what_has_not_changed_since_the_caption():
    state = TokenState.of((14, 14))
    state.features = np.ones((49, 8), np.float32)
    assert not state.unchanged_since_caption().any()
    state.describe()
    state.features = state.features.copy()
    state.features[7] += 1e-6
    assert np.flatnonzero(~state.unchanged_since_caption()).tolist() == [7]
