# SPDX-License-Identifier: Apache-2.0
"""Where callbacks leave their messages for the worker: the newest image wins, events wait within a bound."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

_PACKET_BYTES = 512  # what a waiting packet takes beside its events


@dataclass(frozen=True)
class Delivery:
    """What the worker takes out: the newest image, the event packets since the last delivery, and the losses.

    ``frames_dropped`` images were replaced before anybody looked at them; ``events_overflowed`` says that packets had
    to be thrown away because their bytes reached the bound.
    """

    image: Any
    event_packets: tuple[Any, ...]
    frames_dropped: int
    events_overflowed: bool


class Mailbox:
    """One slot for images and a byte-bounded queue for event packets; ``put`` never blocks."""

    def __init__(self, max_event_bytes: int = 32 << 20) -> None:
        self._max_event_bytes = max_event_bytes
        self._changed = threading.Condition()
        self._image: Any = None
        self._packets: deque[tuple[Any, int]] = deque()
        self._packet_bytes = 0
        self._overflowed = False
        self._dropped = 0
        self._closed = False

    def put_image(self, image: Any) -> None:
        with self._changed:
            if self._closed:
                self._dropped += 1
                return
            self._dropped += self._image is not None
            self._image = image
            self._changed.notify()

    def put_events(self, packet: Any, size_bytes: int) -> None:
        """Queue a packet; over the bound all queued packets go, since a gap makes every count a lie anyway."""
        size_bytes += _PACKET_BYTES
        with self._changed:
            if self._packet_bytes + size_bytes > self._max_event_bytes:
                self._packets.clear()
                self._packet_bytes = 0
                self._overflowed = True
            self._packets.append((packet, size_bytes))
            self._packet_bytes += size_bytes

    def take(self, timeout_s: float) -> Delivery | None:
        """Wait for an image; None after ``timeout_s`` or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._image is not None or self._closed, timeout_s)
            if self._closed or self._image is None:
                return None
            delivery = Delivery(
                image=self._image,
                event_packets=tuple(packet for packet, _ in self._packets),
                frames_dropped=self._dropped,
                events_overflowed=self._overflowed,
            )
            self._clear()
            return delivery

    def close(self) -> int:
        """Wake the worker for good; what was waiting is forgotten. Returns how many images that were."""
        with self._changed:
            self._closed = True
            forgotten = self._dropped + (self._image is not None)
            self._clear()
            self._changed.notify_all()
            return forgotten

    def _clear(self) -> None:
        self._image = None
        self._packets.clear()
        self._packet_bytes = 0
        self._overflowed = False
        self._dropped = 0
