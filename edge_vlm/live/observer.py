# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of live topics to observations, decoded exactly as those of a recording are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.live.mailbox import Delivery
from edge_vlm.observation import Frame, Observation
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.compressed_image import decode_compressed_image
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_frames import EventDrawing
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_messages import add_event_message
from edge_vlm.sources.image_decoding import decode_image
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, IMAGE, deserialised
from edge_vlm.sources.stamps import StampFollower


@dataclass(frozen=True)
class EventTick:
    """Stands where an image would: draw the events since the last tick and caption that."""

    receive_ns: int


@dataclass
class LiveObserver:
    """Turns deliveries into observations. ``image_type`` and ``event_type`` are the ROS names of the message types;
    ``event_type`` empty: no events. ``intake`` is an ``EventDrawing`` where pictures are drawn from events."""

    image_type: str = IMAGE
    event_type: str = ""
    intake: EventIntake = field(default_factory=EventIntake)
    stamps: StampFollower = field(default_factory=StampFollower)
    _last_stamp: tuple[int, int] | None = None

    @classmethod
    def on_grid(cls, grid: tuple[int, int], image_type: str, event_type: str, draws_events: bool) -> LiveObserver:
        intake = EventDrawing if draws_events else EventIntake
        return cls(image_type, event_type, intake(EventAccumulator(grid)))

    def observe(self, delivery: Delivery) -> Observation | None:
        """The observation of a delivery; None where it holds nothing new: the image before once more, or no events yet.

        Raises:
            InputError: the image cannot be decoded. Its events are kept for the next.
        """
        if delivery.events_overflowed:
            self.intake.accumulator.overload = True
        for packet in delivery.event_packets:
            add_event_message(self.intake, packet, self.event_type, ros1=False)
        if isinstance(delivery.image, EventTick):
            return self._drawn(delivery.image)
        return self._camera_image(delivery.image)

    def reset(self) -> None:
        """Forget the streams so far; the counters stay."""
        self.intake.reset()
        self.stamps.reset()
        self._last_stamp = None

    def _camera_image(self, raw: RawMessage) -> Observation | None:
        message = deserialised(memoryview(raw.data), self.image_type, ros1=False)  # a view is not copied
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        if stamp == self._last_stamp and any(stamp):
            return None
        image = self._decoded(message)
        self._last_stamp = stamp
        stamp_ns = self.stamps.follow(*stamp, raw.receive_ns)
        if self.stamps.jumped_back:
            self.intake.reset()
        events = self.intake.take(self.stamps.interval_us or None) if self.event_type else None
        return Observation(Frame(stamp_ns, image, message.header.frame_id), events)

    def _drawn(self, tick: EventTick) -> Observation | None:
        image = self.intake.draw()
        if image is None:
            return None
        stamp_ns = self.stamps.follow(*divmod(tick.receive_ns, 1_000_000_000), tick.receive_ns)
        return Observation(Frame(stamp_ns, image, "events"), self.intake.take(self.stamps.interval_us or None))

    def _decoded(self, message) -> np.ndarray:
        if self.image_type == COMPRESSED_IMAGE:
            return decode_compressed_image(message.format, message.data)
        fields = (message.encoding, message.height, message.width, message.step, message.is_bigendian)
        return decode_image(*fields, message.data)


def rejection(error: InputError) -> str:
    """The kind of an InputError, without the details that differ from message to message."""
    return error.what.partition(":")[0]
