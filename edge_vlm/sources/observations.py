# SPDX-License-Identifier: Apache-2.0
"""A recording's messages as observations: each image with the events since the image before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_vlm.errors import InputError, SourceError
from edge_vlm.observation import Frame, Observation
from edge_vlm.sources.bag import Recording, open_recording
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.bag_topics import ChosenTopics, choose_topics
from edge_vlm.sources.compressed_image import decode_compressed_image
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_messages import add_event_message
from edge_vlm.sources.image_decoding import decode_image
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, deserialised
from edge_vlm.sources.source import SourceCounts
from edge_vlm.sources.stamps import StampFollower


def open_bag(
    path: str | Path,
    image_topic: str | None = None,
    event_topic: str | None = None,
    grid: tuple[int, int] = (14, 14),
) -> BagSource:
    """The observations of a recording. Topics are found by type where they are not named; ``event_topic`` "none"
    leaves events out. ``grid`` is the (rows, columns) of patches that events are counted on.

    Raises:
        SourceError: no recording, or no such topic.
    """
    recording = open_recording(path)
    try:
        topics = choose_topics(Path(path), recording.topics, image_topic, event_topic)
    except SourceError:
        damage = next((s.damage for s in recording.storages if s.damage is not None), None)
        recording.close()
        if damage is not None and image_topic is None:
            raise damage from None
        raise
    return BagSource(recording, topics, EventIntake(EventAccumulator(grid)))


@dataclass
class BagSource:
    """Every message of the image topic becomes one observation or one drop in ``counts``.

    Messages are taken in the order in which the recorder got them: an image comes with the event packets that
    arrived since the last image that could be decoded.
    """

    recording: Recording
    topics: ChosenTopics
    intake: EventIntake
    counts: SourceCounts = field(default_factory=SourceCounts)
    notes: list[str] = field(default_factory=list)
    stamps: StampFollower = field(default_factory=StampFollower)

    def __post_init__(self) -> None:
        self.notes.extend(self.topics.said)

    @property
    def name(self) -> str:
        return str(self.recording.path)

    @property
    def expected_frames(self) -> int:
        return self.topics.image.message_count

    def close(self) -> None:
        self.recording.close()

    def __iter__(self) -> Iterator[Observation]:
        """Observations in order.

        Raises:
            SourceError: the file is cut (after everything readable), or not one image could be decoded.
        """
        names = {self.topics.image.name} | ({self.topics.events.name} if self.topics.events else set())
        first_drop: InputError | None = None
        try:
            for message in self.recording.messages(names):
                if message.topic != self.topics.image.name:
                    add_event_message(self.intake, message, self.topics.events.message_type, self.recording.ros1)
                    continue
                try:
                    yield self._observe(message)
                except InputError as error:
                    self.counts.drop(error)
                    first_drop = first_drop or self._say_drop(error)
        finally:
            self._count_events()
        if not self.counts.images:
            raise SourceError(f"topic {self.topics.image.name} of {self.name} has no messages", "name another topic")
        if first_drop is not None and not self.counts.frames:
            raise SourceError(
                f"none of the {self.counts.images} images on {self.topics.image.name} of {self.name} can be used: "
                f"{first_drop.what}",
                first_drop.remedy,
            )

    def _observe(self, message: RawMessage) -> Observation:
        self.counts.images += 1
        image_message = deserialised(message.data, self.topics.image.message_type, self.recording.ros1)
        image = self._decoded(image_message)
        stamp = image_message.header.stamp
        stamp_ns = self.stamps.follow(stamp.sec, stamp.nanosec, message.receive_ns)
        self._say_stamps()
        if self.stamps.jumped_back:
            self.intake.reset()
        events = self.intake.take(self._interval_us()) if self.topics.events else None
        self.counts.frames += 1
        self._count_events()
        return Observation(Frame(stamp_ns, image, image_message.header.frame_id), events)

    def _decoded(self, message) -> np.ndarray:
        if self.topics.image.message_type == COMPRESSED_IMAGE:
            return decode_compressed_image(message.format, message.data)
        return decode_image(
            message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data
        )

    def _interval_us(self) -> int | None:
        """Since the frame before; None where equal stamps say nothing."""
        return self.stamps.interval_us or None

    def _count_events(self) -> None:
        if self.intake.dropped and not self.counts.event_packets_undecodable:
            what = self.intake.first_error.what
            self.notes.append(f"event topic {self.topics.events.name}: {what}; such packets are left out")
        self.counts.follow_events(self.intake)

    def _say_drop(self, error: InputError) -> InputError:
        self.notes.append(f"image topic {self.topics.image.name}, message {self.counts.images}: {error.what}; dropped")
        return error

    def _say_stamps(self) -> None:
        stamps, topic = self.stamps, self.topics.image.name
        if stamps.replaced and not self.counts.stamps_replaced:
            self.notes.append(f"image topic {topic}: zero or impossible header stamp; time of receipt used instead")
        if stamps.backward and not self.counts.stamps_backward:
            self.notes.append(f"image topic {topic}: a stamp jumps back at message {self.counts.images}")
        self.counts.stamps_replaced, self.counts.stamps_backward = stamps.replaced, stamps.backward
