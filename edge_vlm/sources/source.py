# SPDX-License-Identifier: Apache-2.0
"""What every source of observations offers to its drivers, and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from edge_vlm.errors import InputError
from edge_vlm.observation import Observation
from edge_vlm.sources.event_intake import EventIntake


@dataclass
class SourceCounts:
    """Frames in and out: ``images == frames + sum(dropped.values())`` at every moment.

    ``dropped`` counts frames by reason. ``stamps_replaced``: zero or impossible header stamps, where the time of
    receipt stands in. ``stamps_backward``: stamps before the one before. The event numbers are of the whole source.
    """

    images: int = 0
    frames: int = 0
    dropped: Counter = field(default_factory=Counter)
    stamps_replaced: int = 0
    stamps_backward: int = 0
    event_packets: int = 0
    events: int = 0
    events_outside: int = 0
    event_packets_lost: int = 0
    event_packets_undecodable: Counter = field(default_factory=Counter)
    event_overloads: int = 0

    def drop(self, error: InputError) -> None:
        """One image that gives no frame; the reason is what stands before the details."""
        self.dropped[error.what.partition(":")[0]] += 1

    def follow_events(self, intake: EventIntake) -> None:
        """Take over the counters of the event topic."""
        self.event_packets, self.events, self.events_outside = intake.packets, intake.events, intake.outside
        self.event_packets_lost, self.event_overloads = intake.lost, intake.overloads
        self.event_packets_undecodable = Counter(intake.dropped)

    def to_json(self) -> dict:
        """All of it as JSON values."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


class ObservationSource(Protocol):
    """Yields observations once, in order; closed by ``close()``.

    ``name`` is what the user gave. ``expected_frames`` is None where nobody can know. ``notes`` are lines for the
    user: choices made, oddities met; they may grow while iterating.
    """

    name: str
    expected_frames: int | None
    counts: SourceCounts
    notes: list[str]

    def __iter__(self) -> Iterator[Observation]: ...

    def close(self) -> None: ...
