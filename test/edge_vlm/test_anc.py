# SPDX-License-Identifier: Apache-2.0
"""Router, the rules around it, and its hysteresis."""

import json

import numpy as np
import pytest

from edge_vlm.anc import (
    BRANCHES,
    BranchHysteresis,
    FixedRules,
    HysteresisConfig,
    MlpRouter,
    Route,
    RoutePolicy,
    SceneFeatures,
)
from edge_vlm.anc.features import colour_shift_levels, edge_density, entropy_bits, scene_features
from edge_vlm.errors import BundleError
from edge_vlm.sttf import TokenState
from edge_vlm.sttf.gate import GateDecision
from edge_vlm.sttf.illumination import Light
from edge_vlm.sttf.scene_watch import Glance

FEATURES = SceneFeatures(0.1, 0.01, 2.0, 3.0, 1.0, 2.0, 0.2, 4.0, 0.0, 0.9, 1.0, 0.0, 0.0, 0.1)
COSTS = np.array([[0.0, 0.0], [0.01, 0.5], [0.01, 0.99], [1.0, 0.0]], np.float32)


def some(count):
    return np.arange(196) < count


def decision(active=10, keyframe=False, deep_only=False):
    return GateDecision(some(active), some(active), some(0), keyframe, deep_only, "test")


class Always:
    """A router with one wish."""

    name = "always"

    def __init__(self, branch):
        self.branch = branch

    def probabilities(self, features):
        return np.array([0.85 if branch == self.branch else 0.05 for branch in BRANCHES])


def policy(branch, **options):
    return RoutePolicy(Always(branch), **options)


def test_the_router_decides_where_there_is_a_choice():
    route = policy("shallow").choose(decision(), FEATURES, True)
    assert route.branch == "shallow" and "always 0.85" in route.reason


@pytest.mark.parametrize("wish", BRANCHES)
def test_rules_stand_above_the_router(wish):
    assert policy(wish).choose(decision(), FEATURES, caches_valid=False).branch == "full"
    assert policy(wish).choose(decision(196, keyframe=True), FEATURES, True).branch == "full"
    assert policy(wish).choose(decision(0), FEATURES, True).branch == "reuse"
    assert policy(wish).choose(decision(deep_only=True), FEATURES, True).branch == "sparse"


def test_without_a_router_changed_tokens_are_computed_at_full_depth():
    routes = RoutePolicy(None)
    assert routes.choose(decision(), FEATURES, True) == Route("sparse", "test")
    assert routes.choose(decision(196, keyframe=True), FEATURES, True).branch == "full"


@pytest.mark.parametrize(("wish", "branch", "tokens"), [("reuse", "reuse", 0), ("shallow", "shallow", 196)])
def test_whole_frames_know_no_single_tokens(wish, branch, tokens):
    routes = policy(wish, whole_frames=True)
    assert routes.choose(decision(), FEATURES, True).branch == branch
    assert routes.tokens(branch, decision()).sum() == tokens
    assert policy("sparse", whole_frames=True).choose(decision(), FEATURES, True).branch == "full"
    assert routes.choose(decision(deep_only=True), FEATURES, True).branch == "full"


def test_changes_are_not_put_off_for_ever():
    routes = policy("reuse", max_skipped_frames=3)
    assert [routes.choose(decision(), FEATURES, True).branch for _ in range(5)] == [
        "reuse",
        "reuse",
        "reuse",
        "sparse",
        "reuse",
    ]


@pytest.mark.parametrize("override", BRANCHES)
def test_override_holds_but_for_frames_that_leave_no_choice(override):
    routes = policy("shallow", override=override)
    assert routes.choose(decision(), FEATURES, caches_valid=False).branch == "full"
    assert routes.choose(decision(), FEATURES, True).branch == override
    assert routes.choose(decision(0), FEATURES, True).branch == ("full" if override == "full" else "reuse")


def test_a_shallow_pass_is_not_forced_where_it_would_be_asked_for_again():
    routes = policy("full", override="shallow")
    assert routes.choose(decision(deep_only=True), FEATURES, True).branch == "sparse"
    assert routes.choose(decision(196, keyframe=True), FEATURES, True).branch == "full"


def test_a_router_that_gives_no_number_costs_time_and_not_truth():
    class Broken:
        name = "broken"

        def probabilities(self, features):
            return np.full(4, np.nan)

    assert RoutePolicy(Broken()).choose(decision(), FEATURES, True).branch == "full"


def test_fixed_rules():
    rules = FixedRules()
    weak = FEATURES._replace(max_change=1.2)
    assert BRANCHES[np.argmax(rules.probabilities(FEATURES))] == "sparse"
    assert BRANCHES[np.argmax(rules.probabilities(weak))] == "shallow"
    assert BRANCHES[np.argmax(rules.probabilities(weak._replace(active_fraction=0.55)))] == "full"
    assert BRANCHES[np.argmax(rules.probabilities(weak._replace(fresh_fraction=0.1)))] == "full"


def test_dearer_at_once_cheaper_only_after_the_dwell_time():
    hysteresis = BranchHysteresis(HysteresisConfig(dwell_frames=3, margin=0.1))

    def choose(branch):
        return hysteresis.choose(Always(branch).probabilities(None), BRANCHES)

    assert choose("shallow") == ("shallow", False)
    assert choose("sparse") == ("sparse", False)
    held = [choose("shallow") for _ in range(4)]
    assert held == [("sparse", True), ("sparse", True), ("shallow", False), ("shallow", False)]


def test_whole_encodes_are_not_held():
    hysteresis = BranchHysteresis(HysteresisConfig(dwell_frames=3, margin=0.1))
    wishes = ("sparse", "full", "sparse", "full", "shallow", "shallow")
    taken = [hysteresis.choose(Always(wish).probabilities(None), BRANCHES)[0] for wish in wishes]
    assert taken == ["sparse", "full", "sparse", "full", "shallow", "shallow"]


def test_a_narrow_win_does_not_switch():
    hysteresis = BranchHysteresis(HysteresisConfig(dwell_frames=0, margin=0.1))
    hysteresis.choose(np.array([0, 0.1, 0.8, 0.1]), BRANCHES)
    assert hysteresis.choose(np.array([0, 0.48, 0.42, 0.1]), BRANCHES) == ("sparse", True)
    assert hysteresis.choose(np.array([0, 0.6, 0.3, 0.1]), BRANCHES) == ("shallow", False)


def random_router(seed=0):
    rng = np.random.default_rng(seed)
    size = len(SceneFeatures._fields)
    layers = (
        (rng.normal(size=(8, size)).astype(np.float32), rng.normal(size=8).astype(np.float32)),
        (rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=3).astype(np.float32)),
    )
    ones = np.ones(size, np.float32)
    return MlpRouter(layers, 0 * ones, ones, COSTS, hysteresis=HysteresisConfig(7, 0.2))


def sure_of(reuse, shallow, sparse, cost_weight=0.5):
    """A router that always gives these probabilities of being within the tolerance."""
    size = len(SceneFeatures._fields)
    chances = np.array([reuse, shallow, sparse], np.float32)
    layers = ((np.zeros((3, size), np.float32), np.log(chances / (1 - chances))),)
    ones = np.ones(size, np.float32)
    return MlpRouter(layers, 0 * ones, ones, COSTS, cost_weight)


def test_a_branch_is_worth_its_chance_less_its_cost():
    def chosen(router, **scene):
        return BRANCHES[np.argmax(router.probabilities(FEATURES._replace(**scene)))]

    assert chosen(sure_of(0.1, 0.2, 0.9)) == "sparse"
    assert chosen(sure_of(0.1, 0.2, 0.6)) == "sparse", "whole encodes cost more than they are worth here"
    assert chosen(sure_of(0.1, 0.2, 0.3)) == "full"
    assert chosen(sure_of(0.1, 0.2, 0.6), active_fraction=0.55) == "full", "hardly cheaper, and less sure"
    assert chosen(sure_of(0.9, 0.92, 0.95), active_fraction=0.3) == "reuse"
    assert chosen(sure_of(0.5, 0.9, 0.92), active_fraction=0.3) == "shallow"
    assert chosen(sure_of(0.9, 0.92, 0.95, cost_weight=0.0)) == "full"


def test_what_training_never_saw_is_taken_as_rare():
    router = random_router()
    far, further = (FEATURES._replace(mean_change=change) for change in (10.0, 1e6))
    np.testing.assert_array_equal(router.probabilities(far), router.probabilities(further))


def test_router_survives_json():
    router = random_router()
    again = MlpRouter.from_json(json.loads(json.dumps(router.to_json())))
    np.testing.assert_allclose(again.probabilities(FEATURES), router.probabilities(FEATURES), rtol=1e-5)
    assert again.hysteresis == router.hysteresis
    assert sum(router.probabilities(FEATURES)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda json: json.update(version=9),
        lambda json: json.update(branches=["full"]),
        lambda json: json["features"].pop(),
        lambda json: json["mean"].pop(),
        lambda json: json["std"].__setitem__(0, 0.0),
        lambda json: json["layers"][0]["bias"].pop(),
        lambda json: json["layers"].pop(),
        lambda json: json["layers"][0]["bias"].__setitem__(0, float("nan")),
        lambda json: json.pop("layers"),
        lambda json: json["costs"].pop(),
        lambda json: json.update(temperature=0.0),
    ],
)
def test_a_router_of_another_shape_is_refused_with_the_remedy(spoil):
    values = random_router().to_json()
    spoil(values)
    with pytest.raises(BundleError, match="train-router"):
        MlpRouter.from_json(values)


def test_colour_shift_sees_what_took_a_patchs_place_and_not_its_texture():
    rng = np.random.default_rng(0)
    reference = rng.uniform(90, 110, (196, 16, 3)).astype(np.float32)
    moved = np.roll(reference, 3, axis=1)
    assert colour_shift_levels(moved, reference, some(4)).max() < 1e-3
    np.testing.assert_allclose(colour_shift_levels(reference + 25, reference, some(4)), np.full(4, 25.0), rtol=1e-4)
    assert colour_shift_levels(moved, reference, some(0)).tolist() == [0.0]


def test_scene_numbers():
    flat = np.full((56, 56), 100.0, np.float32)
    stripes = np.tile(np.repeat([0.0, 200.0], 2), 14)[None].repeat(56, axis=0).astype(np.float32)
    assert edge_density(flat) == 0.0 and 0.3 < edge_density(stripes) <= 0.6
    assert entropy_bits(flat) == 0.0 and entropy_bits(stripes) == pytest.approx(1.0)


@pytest.mark.parametrize("active", [0, 5, 196])
def test_features_are_finite_whatever_the_scores_are(active):
    glance = Glance(
        scores=np.full(196, np.inf),
        descriptors=np.zeros((196, 16, 3), np.float32),
        light=Light(),
        grid=(14, 14),
        pixels_per_cell=4.0,
        mean_level=0.0,
    )
    features = scene_features(glance, decision(active), TokenState.of((14, 14)), 1.0)
    assert np.isfinite(features.vector()).all()
    assert features.vector().shape == (len(SceneFeatures._fields),)
