# SPDX-License-Identifier: Apache-2.0
"""Pictures of an event camera that comes without a frame camera: events drawn on grey, at a fixed rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_vlm.errors import SourceError
from edge_vlm.observation import Events, Frame, Observation
from edge_vlm.sources.bag import Recording, open_recording
from edge_vlm.sources.bag_storage import TopicInfo
from edge_vlm.sources.bag_topics import choose_event_topic
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_list import EventList, decode_event_list
from edge_vlm.sources.event_messages import add_event_message
from edge_vlm.sources.source import SourceCounts

_GREY, _STEP = 128, 42  # three events of one polarity make a pixel white or black


def open_event_frames(
    path: str | Path, rate_hz: float, event_topic: str | None = None, grid: tuple[int, int] = (14, 14)
) -> EventFrameSource:
    """One picture of the events every ``1 / rate_hz`` seconds of the recording.

    Raises:
        SourceError: no recording, no event topic in it, or an impossible rate.
    """
    if not 0.0 < rate_hz <= 10_000.0:
        raise SourceError(f"event frames at {rate_hz} Hz", "give a rate above 0, at most 10000, for example 20")
    recording = open_recording(path)
    try:
        topic, said = choose_event_topic(Path(path), recording.topics, event_topic)
    except SourceError:
        recording.close()
        raise
    return EventFrameSource(recording, topic, round(1e9 / rate_hz), EventDrawing(EventAccumulator(grid)), notes=said)


@dataclass
class EventDrawing(EventIntake):
    """An intake that also keeps the sum of polarities, int16 (height, width), of the events since ``draw``."""

    def __init__(self, accumulator: EventAccumulator) -> None:
        super().__init__(accumulator)
        self._sum: np.ndarray | None = None

    def _read(self, *packet) -> None:
        """Drawing needs the polarities, so every event."""
        self._count(*self.decoder.decode(*packet))

    def _read_list(self, message: EventList) -> None:
        self._count(*decode_event_list(message))

    def _count(self, events: Events, outside: int) -> None:
        super()._count(events, outside)
        if self._sum is None or self._sum.shape != (events.height, events.width):
            self._sum = np.zeros((events.height, events.width), np.int32)
        flat = events.y.astype(np.int64) * events.width + events.x
        signed = np.bincount(flat, np.where(events.polarity, 1.0, -1.0), self._sum.size)
        self._sum += signed.astype(np.int32).reshape(self._sum.shape)

    def reset(self) -> None:
        super().reset()
        self._sum = None

    def draw(self) -> np.ndarray | None:
        """RGB uint8 (height, width, 3), None before the first event."""
        if self._sum is None:
            return None
        grey = np.clip(_GREY + _STEP * self._sum, 0, 255).astype(np.uint8)
        self._sum.fill(0)
        return np.repeat(grey[:, :, None], 3, axis=2)


@dataclass
class EventFrameSource:
    """Frames at the end of every interval that holds a packet; stamps are times of receipt."""

    recording: Recording
    topic: TopicInfo
    interval_ns: int
    intake: EventDrawing
    counts: SourceCounts = field(default_factory=SourceCounts)
    notes: list[str] = field(default_factory=list)
    expected_frames: int | None = None

    @property
    def name(self) -> str:
        return str(self.recording.path)

    def close(self) -> None:
        self.recording.close()

    def __iter__(self) -> Iterator[Observation]:
        """Observations in order.

        Raises:
            SourceError: the file is cut (after everything readable), or holds no events.
        """
        due_ns: int | None = None
        try:
            for message in self.recording.messages({self.topic.name}):
                if due_ns is None or message.receive_ns < due_ns - self.interval_ns:
                    due_ns = message.receive_ns + self.interval_ns
                if message.receive_ns >= due_ns:
                    yield from self._observe(due_ns)
                    due_ns += -(-(message.receive_ns - due_ns + 1) // self.interval_ns) * self.interval_ns
                add_event_message(self.intake, message, self.topic.message_type, self.recording.ros1)
            if due_ns is not None:
                yield from self._observe(due_ns)
        finally:
            self.counts.follow_events(self.intake)
        if not self.counts.frames:
            raise SourceError(
                f"topic {self.topic.name} of {self.name} holds no events", "check the event camera's driver"
            )

    def _observe(self, stamp_ns: int) -> Iterator[Observation]:
        image = self.intake.draw()
        if image is None:
            return
        self.counts.images += 1
        self.counts.frames += 1
        self.counts.follow_events(self.intake)
        yield Observation(Frame(stamp_ns, image, "events"), self.intake.take(self.interval_ns // 1000))
