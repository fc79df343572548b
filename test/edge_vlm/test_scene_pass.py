# SPDX-License-Identifier: Apache-2.0
"""The library's pass over a scene against the NumPy that says what its figures mean, and what it refuses."""

import math
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from custom_ops import library
from custom_ops.errors import OperatorError
from custom_ops.scene_pass import load_scene_measurer
from edge_vlm.anc.features import SceneFeatures, scene_features
from edge_vlm.anc.router import MlpRouter
from edge_vlm.sttf import TokenState
from edge_vlm.sttf.change import cell_image, describe
from edge_vlm.sttf.ego_motion import global_shift
from edge_vlm.sttf.gate import GateDecision
from edge_vlm.sttf.illumination import Light
from edge_vlm.sttf.scene_watch import Glance


@pytest.fixture(scope="module")
def measurer():
    if not shutil.which("g++"):
        pytest.skip("no compiler")
    library.ensure_library()
    return load_scene_measurer()


def texture(rng, size=600):
    """Random, smooth, strong enough to correlate."""
    coarse = rng.integers(0, 256, (size // 20, size // 20, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def a_scene(seed, grid=(14, 14), shift_px=0, previous=True):
    """What gate and state hold in the middle of a stream, all of it random."""
    rng, tokens = np.random.default_rng(seed), grid[0] * grid[1]
    picture = texture(rng)
    size = (grid[1] * 32, grid[0] * 32)
    before, now = (cv2.resize(picture[60:500, 60 + d : 500 + d], size) for d in (0, -shift_px))
    state = TokenState.of(grid)
    state.reference[:] = rng.uniform(0, 255, state.reference.shape)
    state.was_active = rng.random(tokens) < 0.2
    state.shallow[:] = rng.random(tokens) < 0.1
    state.context_debt = rng.random(tokens).astype(np.float32)
    state.full_features = rng.normal(size=(49, 30)).astype(np.float32)
    state.features = state.full_features + rng.normal(0, 0.1, (49, 30)).astype(np.float32)
    scores = rng.gamma(1, 9, tokens).astype(np.float32)
    scores[0] = np.inf
    seen = describe(before, grid) if previous else None
    glance = Glance(scores, describe(now, grid), Light(), grid, 4.0, 128.0, seen)
    changed = scores > 6
    return glance, GateDecision(changed | state.was_active, changed, ~changed, False, False, "test"), state


@pytest.mark.parametrize("grid", [(14, 14), (16, 16), (7, 9), (27, 27), (5, 11), (1, 1)])
def test_the_pass_says_what_numpy_says(measurer, grid):
    for seed in range(3):
        scene = a_scene(seed, grid, shift_px=9)
        expected, found = scene_features(*scene, 0.5).vector(), scene_features(*scene, 0.5, measurer).vector()
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_nothing_wanted_nothing_remembered_no_frame_before(measurer):
    glance, decision, state = a_scene(1, previous=False)
    nothing = np.zeros(196, bool)
    decision, state.full_features = decision._replace(active=nothing, changed=nothing), None
    expected = scene_features(glance, decision, state, 1.0)
    found = scene_features(glance, decision, state, 1.0, measurer)
    np.testing.assert_allclose(found.vector(), expected.vector(), rtol=2e-3, atol=2e-3)
    assert found.drift == found.ego_shift_px == found.max_shift == found.max_change == 0


def test_scores_of_events_are_of_double_precision(measurer):
    glance, decision, state = a_scene(3)
    expected = scene_features(glance, decision, state, 1.0, measurer)
    assert (
        scene_features(replace(glance, scores=glance.scores.astype(float)), decision, state, 1.0, measurer) == expected
    )


def test_an_image_without_contrast_has_no_shift(measurer):
    glance, decision, state = a_scene(1)
    glance = replace(glance, descriptors=np.full_like(glance.descriptors, 90))
    assert scene_features(glance, decision, state, 1.0, measurer).ego_shift_px == 0


@pytest.mark.parametrize("cells", [(3, -2), (-6, 1), (0, 0)])
def test_the_shift_is_that_of_the_picture(measurer, cells):
    """Positive where the content has moved to the right and down."""
    dx, dy = cells
    picture = texture(np.random.default_rng(4), 900)
    before, now = picture[100:660, 100:660], picture[100 - 10 * dy : 660 - 10 * dy, 100 - 10 * dx : 660 - 10 * dx]
    seen = [describe(np.ascontiguousarray(image), (14, 14)) for image in (before, now)]
    found = global_shift(*(cell_image(each, (14, 14)) for each in seen), pixels_per_cell=1.0)
    assert (found.dx_px, found.dy_px) == pytest.approx(cells, abs=0.3)
    _, decision, state = a_scene(0)
    frames = (seen[1], seen[0], state.reference)
    masks = (decision.active, decision.changed, state.was_active, state.shallow)
    scores = np.zeros(196, np.float32)
    passed = measurer.measure((14, 14), frames, scores, state.context_debt, masks, None, 4.0, 1.0, 0)
    assert (passed.shift_x, passed.shift_y) == pytest.approx((found.dx_px, found.dy_px), abs=1e-3)
    assert passed.shift_response == pytest.approx(found.response, abs=1e-3)


def test_arrays_of_another_shape_or_type_are_refused(measurer):
    glance, decision, state = a_scene(2)
    for wrong in (glance.descriptors.astype(np.float64), glance.descriptors[:-1], np.repeat(glance.descriptors, 2, 0)):
        with pytest.raises(OperatorError, match="an array is"):
            scene_features(replace(glance, descriptors=wrong), decision, state, 1.0, measurer)
    odd = np.zeros((196, 15, 3), np.float32)
    with pytest.raises(OperatorError, match="refused"):
        state.reference = odd
        scene_features(replace(glance, descriptors=odd, previous=None), decision, state, 1.0, measurer)


def a_router(widths, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(widths, widths[1:], strict=False)
    layers = tuple((rng.normal(0, 0.5, (out, into)).astype(np.float32), rng.normal(size=out)) for into, out in pairs)
    mean, std = rng.normal(size=widths[0]), rng.uniform(0.1, 3, widths[0])
    return MlpRouter(layers, mean, std, rng.random((4, 2)))


@pytest.mark.parametrize("widths", [(14, 12, 3), (14, 3), (14, 33, 7, 3), (14, 256, 3)])
def test_the_network_says_what_numpy_says(measurer, widths):
    rng, router = np.random.default_rng(1), a_router(widths)
    fast = router.in_library()
    assert fast.network is not None
    for scale in (1.0, 30.0):  # also beyond the limit of the inputs
        features = SceneFeatures(*rng.normal(0, scale, 14).tolist())
        assert fast.probabilities(features) == pytest.approx(router.probabilities(features), abs=1e-5)


def test_what_is_no_number_stays_none(measurer):
    features = SceneFeatures(*[0.5] * 13, math.nan)
    assert math.isnan(a_router((14, 12, 3)).in_library().probabilities(features)[0])


def test_a_network_too_large_or_of_other_figures_is_refused(measurer):
    features = SceneFeatures(*[0.5] * 14)
    for router, given in ((a_router((14, 257, 3)), features), (a_router((13, 3)), features)):
        with pytest.raises(OperatorError, match="refused"):
            router.in_library().probabilities(given)
