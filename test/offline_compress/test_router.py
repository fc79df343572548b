# SPDX-License-Identifier: Apache-2.0
"""Oracle, calibration and training of the router, with a NumPy encoder of known behaviour."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from edge_vlm.anc import MlpRouter, SceneFeatures
from edge_vlm.runtime.bundle import VisionInfo
from edge_vlm.sttf import SttfConfig
from offline_compress.train.router import RouterConfig, branch_costs, train_router
from offline_compress.train.router_calibration import calibrate, kept, noise_distance
from offline_compress.train.router_clips import render_clip
from offline_compress.train.router_oracle import Trial, encode_whole, gate_quality, trials_of_clip

GRID = (14, 14)
COSTS = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0]], np.float32)  # at an active fraction of 0.1
VISION = VisionInfo(196, 14, 192, 6, 2, 49, 1000, 400, 1, 5000)


class PatchEncoder:
    """Tokens are the 2 x 2 cell means of their patches; shallow depth leaves half of each token as it was."""

    def __init__(self):
        self.fresh = np.zeros((196, 12), np.float32)
        self.deep = np.zeros((196, 12), np.float32)

    def resize(self, image):
        return cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)

    def patchify(self, resized, positions=None):
        cells = resized.reshape(14, 2, 8, 14, 2, 8, 3).astype(np.float32).mean(axis=(2, 5))
        patches = cells.transpose(0, 2, 1, 3, 4).reshape(196, 12)
        return patches if positions is None else patches[positions]

    def encode(self, patches, positions, shallow=False):
        self.fresh[positions] = patches
        if not shallow:
            self.deep[positions] = patches
        tokens = 0.5 * (self.fresh + self.deep)
        return tokens.reshape(7, 2, 7, 2, 12).transpose(0, 2, 1, 3, 4).reshape(49, 48).copy()


@pytest.fixture(scope="module")
def clips():
    encoder = PatchEncoder()
    return [encode_whole(encoder, render_clip(seed, stretches=3), 196) for seed in range(6)]


def test_clips_are_repeatable_and_know_what_is_still():
    first, second = render_clip(3, stretches=3), render_clip(3, stretches=3)
    assert all((a.image == b.image).all() and a.stamp_ns == b.stamp_ns for a, b in zip(first, second, strict=True))
    stamps = [frame.stamp_ns for frame in first]
    assert stamps == sorted(set(stamps)) and len(first) >= 15
    assert not first[0].still and any(frame.still for frame in first)


def test_costs_follow_from_the_encoder():
    costs = branch_costs(VISION)
    for active in (1, 50, 196):
        for row, shallow in ((1, True), (2, False)):
            share = VISION.encoder_macs(active, shallow) / VISION.encoder_macs(196)
            assert costs[row, 0] + costs[row, 1] * active / 196 == pytest.approx(share)
    assert costs[0].tolist() == [0, 0] and costs[3].tolist() == [1, 0]


def test_threshold_zero_has_no_error_and_computes_everything(clips):
    quality = gate_quality(PatchEncoder(), clips[:2], SttfConfig(threshold_on=0.0, threshold_off=0.0), GRID, 224)
    assert quality.token_share == 1.0 and quality.errors.max() == 0.0


def test_calibration_costs_no_accuracy_and_reuses(clips):
    calibration = calibrate(PatchEncoder(), clips, SttfConfig(), GRID, 224)
    assert noise_distance(clips) > 0
    finest = gate_quality(PatchEncoder(), clips, SttfConfig(threshold_on=2.0, threshold_off=1.33), GRID, 224)
    allowed = max(calibration.tolerance, 1.1 * np.quantile(finest.errors, 0.95))
    assert np.quantile(calibration.quality.errors, 0.95) <= allowed
    assert calibration.quality.token_share < 0.6
    assert calibration.sttf.scene_distance > noise_distance(clips)
    gate = SttfConfig(threshold_on=5.0, threshold_off=3.0)
    as_it_is = kept(PatchEncoder(), clips, gate, GRID, 224)
    assert as_it_is.sttf == gate and as_it_is.tolerance == calibration.tolerance


def test_trials_cost_and_err_as_their_branches_do(clips):
    trials = [
        trial
        for index, clip in enumerate(clips)
        for trial in trials_of_clip(PatchEncoder(), clip, index, SttfConfig(), VISION, 224, lambda features: 0.5)
    ]
    assert len(trials) >= 10
    for trial in trials:
        assert trial.costs[0] == 0 and trial.costs[3] == 1 and (np.diff(trial.costs) > 0).all()
        assert trial.errors[3] == 0
    errors = np.mean([trial.errors for trial in trials], axis=0)
    assert errors[0] > errors[1] > errors[2], "the dearer the branch, the closer it comes to a whole encode"


def synthetic_trials(count=400, seed=0):
    """The branch that is needed follows from one feature; the router has to find out which."""
    rng = np.random.default_rng(seed)
    base = SceneFeatures(0.1, 0.01, 1.0, 1.0, 1.0, 1.0, 0.2, 4.0, 0.0, 0.9, 1.0, 0.0, 0.0, 0.1)
    trials = []
    for index in range(count):
        change = float(rng.uniform(0, 4))
        features = base._replace(max_change=change, edge_density=float(rng.random()))
        errors = np.array([0.3 * change, 0.15 * change, 0.1 * change, 0.0], np.float32)
        trials.append(Trial(index % 20, features, errors, np.array([0.0, 0.1, 0.3, 1.0], np.float32)))
    return trials


def test_router_learns_the_oracle_and_uses_every_branch():
    router, report = train_router(synthetic_trials(), COSTS, RouterConfig(tolerance=0.3))
    assert report.agreement > 0.7
    assert min(report.branch_share.values()) > 0.05
    assert report.within_tolerance > 0.9 > report.rules_within_tolerance
    assert report.cost == pytest.approx(report.oracle_cost, abs=0.1)
    assert report.at_rules_cost >= report.rules_within_tolerance
    assert report.oracle_cost_without_shallow > report.oracle_cost
    again = MlpRouter.from_json(router.to_json())
    features = synthetic_trials(3)[2].features
    np.testing.assert_allclose(again.probabilities(features), router.probabilities(features), atol=1e-5)


def test_training_is_repeatable():
    first, _ = train_router(synthetic_trials(150), COSTS, RouterConfig(tolerance=0.3, steps=50))
    second, _ = train_router(synthetic_trials(150), COSTS, RouterConfig(tolerance=0.3, steps=50))
    assert first.to_json() == second.to_json()


def test_too_few_trials_are_refused():
    with pytest.raises(ValueError, match="5 frames with a choice are too few .* 100 are needed"):
        train_router(synthetic_trials(5), COSTS, RouterConfig(tolerance=0.3))
