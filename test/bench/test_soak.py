# SPDX-License-Identifier: Apache-2.0
"""The soak for a few seconds and without ROS: its bookkeeping, and that every frame is accounted for under load."""

import numpy as np
import pytest

from bench.direct import DirectCaptioner
from bench.soak import figures, slope_mb


def test_every_frame_and_packet_of_a_short_soak_is_accounted_for():
    captioner = DirectCaptioner()
    memory, sent, told, stopped_s = captioner.soak(4.0, 1e6, 30.0)
    rows = {row.name: row for row in figures(np.array(memory), sent, told, captioner.start_s, stopped_s)}
    assert sent["images"] > 10
    for name in (
        "images sent that reached the node",
        "event packets counted, read or lost",
        "frames received and not accounted for",
        "frames failed",
        "SIGINT to end",
    ):
        assert rows[name].holds, rows[name]
    assert rows["frames processed"].value > 0


def test_slope_is_that_of_the_lowest_values_after_the_warm_up():
    seconds = np.arange(0.0, 300.0, 0.5)
    burst = 20.0 * (np.arange(len(seconds)) % 7 == 0)
    leak = 0.01 * seconds + np.where(seconds < 60.0, -50.0, 0.0)
    assert abs(slope_mb(np.stack([seconds, 100.0 + burst + leak], axis=1)) - 6.0) < 0.1  # MB per 10 minutes
    assert slope_mb(np.stack([seconds, 100.0 + burst], axis=1)) == pytest.approx(0.0, abs=1e-6)
    assert slope_mb(np.array([[0.0, 100.0], [90.0, 100.0]])) is None
