# SPDX-License-Identifier: Apache-2.0
"""The pipeline with the real encoder and decoder of the demo bundle; the caches here are the delegate's."""

import numpy as np
import pytest
from pipeline_fakes import background, observe, with_noise, with_square

from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.errors import BundleError
from edge_vlm.pipeline import CaptionPipeline, PipelineConfig
from edge_vlm.runtime.bundle import Bundle
from edge_vlm.sttf import SttfConfig


@pytest.fixture(scope="module")
def bundle():
    try:
        return Bundle.load(default_bundle_path(), verify=False)
    except BundleError as absent:
        pytest.skip(f"no demo bundle: {absent.what}")


@pytest.fixture(scope="module")
def observations():
    """Rest, an object that comes, moves and leaves, rest."""
    image = background(height=240, width=320)
    frames = []
    for index in range(16):
        scene = with_square(image, 40 + 12 * index, 100, side=40) if 4 <= index < 10 else image
        frames.append(observe(with_noise(scene, 3, index), index))
    return frames


def run(bundle, observations, config=None):
    """Reports, and the image features of each frame."""
    pipeline = CaptionPipeline(bundle, config)
    steps = []
    for observation in observations:
        report = pipeline.step(observation)
        steps.append((report, np.array(pipeline._state.features)))
    pipeline.close()
    return steps


@pytest.fixture(scope="module")
def dense(bundle, observations):
    return run(bundle, observations, PipelineConfig(reuse=False))


def test_threshold_zero_is_full_recomputation_bit_for_bit(bundle, observations, dense):
    zero = PipelineConfig(sttf=SttfConfig(threshold_on=0.0, threshold_off=0.0))
    for (_, features), (_, expected) in zip(run(bundle, observations[:8], zero), dense, strict=False):
        np.testing.assert_array_equal(features, expected)


def test_reuse_saves_tokens_and_stays_close(bundle, observations, dense):
    steps = run(bundle, observations)
    share = np.mean([report.tokens_computed / report.tokens_total for report, _ in steps])
    assert share < 0.6
    for (_, features), (_, expected) in zip(steps, dense, strict=True):
        cosine = (features * expected).sum(axis=1)
        cosine /= np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
        assert cosine.mean() > 0.9


def test_two_runs_give_the_same_captions_tokens_and_branches(bundle, observations):
    def trace():
        return [
            (report.caption.text, report.branch, report.branch_reason, report.active.tobytes())
            for report, _ in run(bundle, observations)
        ]

    assert trace() == trace()


def test_energy_is_measured_or_said_to_be_unavailable(bundle, observations):
    report, _ = run(bundle, observations[:1])[0]
    if report.energy.joules is None:
        assert report.energy.note
    else:
        assert report.energy.joules >= 0 and report.energy.source != "unavailable"
