# SPDX-License-Identifier: Apache-2.0
"""The arithmetic behind the figures of bench-adaptive."""

from __future__ import annotations

import numpy as np
import pytest

from bench.adaptive import find_videos
from bench.video_reuse import frame_skipping, mean_cosine
from edge_vlm.errors import SourceError


def test_cosine_is_one_for_a_scaled_copy_and_zero_for_a_token_of_zeros():
    features = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert mean_cosine(2 * features, features) == pytest.approx(1.0)
    assert mean_cosine(np.zeros((2, 2)), features) == 0.0


def test_frame_skipping_spends_the_part_it_is_given():
    turning = [np.array([[np.cos(a), np.sin(a)]]) for a in np.linspace(0, 1, 6)]
    assert frame_skipping(turning, 1.0).tolist() == pytest.approx([1.0] * 6)
    every_second = frame_skipping(turning, 0.5)
    assert every_second[::2].tolist() == pytest.approx([1.0] * 3)
    assert (every_second[1::2] < 1).all()
    kept = frame_skipping(turning, 0.0)
    assert kept[0] == pytest.approx(1.0)
    assert kept[-1] == pytest.approx(np.cos(1.0))


def test_a_folder_without_videos_is_named_with_the_remedy(tmp_path):
    with pytest.raises(SourceError, match="no static videos under .*") as caught:
        find_videos(tmp_path)
    assert "--videos" in str(caught.value)
