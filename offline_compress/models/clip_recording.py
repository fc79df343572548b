# SPDX-License-Identifier: Apache-2.0
"""A rendered clip as a recording: camera images with sensor noise, the events of a camera beside it, and the truth.

The truth lies on topics of its own (std_msgs/String): the name of each stretch of the script when it begins, and a
right caption whenever it becomes another one. Nothing on board reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_vlm.sources.bag_writer import BagWriter
from edge_vlm.sources.event_simulation import EventSimulator
from offline_compress.models.scenes import captions
from offline_compress.models.scenes.clip import Clip

IMAGE_TOPIC, EVENT_TOPIC = "/camera/image_raw/compressed", "/event_camera/events"
SEGMENT_TOPIC, CAPTION_TOPIC = "/truth/segment", "/truth/caption"


@dataclass(frozen=True)
class RecordingConfig:
    """``event_fps`` noiseless frames a second feed the event simulator, a multiple of the clip's rate; ``start_s`` is
    the stamp of the first frame."""

    event_fps: float = 100.0
    jpeg_quality: int = 85
    start_s: int = 1_767_225_600  # 2026-01-01


def record_clip(
    clip: Clip,
    path: Path,
    config: RecordingConfig | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Write the recording; returns its number of images. The same clip gives the same messages.

    Raises OutputError where ``path`` exists or cannot be written.
    """
    config = config or RecordingConfig()
    simulator = EventSimulator(clip.size[1], clip.size[0])
    per_image = round(config.event_fps / clip.fps)
    pictures = clip.frames()
    segment = caption = ""
    images = 0
    with BagWriter(path) as writer:
        for index, (time_s, still_picture, name) in enumerate(clip.frames(config.event_fps, noise=False)):
            stamp_ns = config.start_s * 1_000_000_000 + round(time_s * 1e9)
            writer.add_event_stream(EVENT_TOPIC, simulator.step(still_picture, stamp_ns // 1000), stamp_ns)
            if name != segment:
                segment = name
                writer.add_text(SEGMENT_TOPIC, stamp_ns, segment)
            if index % per_image:
                continue
            true = captions(clip.scene_at(time_s))[0]
            if true != caption:
                caption = true
                writer.add_text(CAPTION_TOPIC, stamp_ns, caption)
            writer.add_image(IMAGE_TOPIC, stamp_ns, next(pictures)[1], jpeg_quality=config.jpeg_quality)
            images += 1
            report(images)
    return images
