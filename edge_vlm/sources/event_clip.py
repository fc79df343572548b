# SPDX-License-Identifier: Apache-2.0
"""One labelled recording of events, as data sets hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.observation import Events


@dataclass(frozen=True)
class EventClip:
    """``label`` is the class index, ``is_test`` which side of the data set's split it is on."""

    name: str
    events: Events
    label: int
    is_test: bool


def clip_between(events: Events, begin_us: int, end_us: int) -> Events:
    """The events from ``begin_us`` on up to before ``end_us``; ``events.t_us`` must ascend."""
    first, last = np.searchsorted(events.t_us, (begin_us, end_us))
    cut = slice(first, last)
    return Events(
        events.x[cut], events.y[cut], events.t_us[cut], events.polarity[cut], events.width, events.height
    )  # fmt: skip
