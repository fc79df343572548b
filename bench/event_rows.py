# SPDX-License-Identifier: Apache-2.0
"""What counting events costs: serialised EVT3 packets to the counts per patch of a frame, on one core."""

from __future__ import annotations

import struct
import time
from statistics import median

import numpy as np

from bench.load import HEIGHT, PACKETS_PER_S, WIDTH, EventStream, event_packet
from bench.rows import Row
from custom_ops.event_counting import EventCounter, load_event_counter
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_messages import add_event_message
from edge_vlm.sources.event_packets import EventPacketDecoder
from edge_vlm.sources.evt3 import ADDR_Y, TIME_HIGH, TIME_LOW, VECT_12, VECT_BASE_X, Evt3Decoder
from edge_vlm.sources.message_types import EVENT_PACKET

EVENTS_PER_S, FRAMES_PER_S = 10e6, 30
GOAL_MS = 5.0
_ROUNDS = 40


def event_rows() -> list[Row]:
    """Milliseconds per million events at 10 million a second and 30 frames: the window's packets in, counts out."""
    evt3 = {"evt3, a word each": EventStream(EVENTS_PER_S).data, "evt3, vectors of 12, half set": vectors()}
    streams = {name: (packets(data, "evt3"), EVENT_PACKET) for name, data in evt3.items()} | record_streams()
    unit, counter = "ms per million events", load_event_counter()
    rows = [
        Row(f"{name}, to counts per patch", counting_ms(*stream, counter), unit, GOAL_MS)
        for name, stream in streams.items()
    ]
    for name, data in evt3.items():
        rows.append(Row(f"{name}, with NumPy", counting_ms(packets(data, "evt3"), EVENT_PACKET, None), unit))
        rows.append(Row(f"{name}, to single events", decoding_ms(data), unit))
    return rows


def packets(data: np.ndarray, encoding: str) -> list[bytes]:
    """One window's, serialised; the same every time."""
    return [event_packet(data, number, encoding) for number in range(PACKETS_PER_S // FRAMES_PER_S)]


def record_streams() -> dict[str, tuple[list[bytes], str]]:
    """The encodings whose events are records: one window of each, and its message type."""
    generator, size = np.random.default_rng(3), int(EVENTS_PER_S / PACKETS_PER_S)
    x, y = generator.integers(0, WIDTH, size), np.repeat(generator.integers(0, HEIGHT, -(-size // 12)), 12)[:size]
    t = np.sort(generator.integers(0, 10_000, size))
    libcaer = np.stack([x << 17 | y << 2 | 1, t], axis=1).astype("<u4").reshape(-1).view(np.uint8)
    mono = (y.astype(np.uint64) << np.uint64(48) | (x << 32 | t * 1000).astype(np.uint64)).view(np.uint8)
    return {
        "libcaer": (packets(libcaer, "libcaer"), EVENT_PACKET),
        "mono": (packets(mono, "mono"), EVENT_PACKET),
        "dvs_msgs/EventArray": ([event_list(x, y, t)] * (PACKETS_PER_S // FRAMES_PER_S), "dvs_msgs/msg/EventArray"),
    }


def event_list(x: np.ndarray, y: np.ndarray, t_us: np.ndarray) -> bytes:
    """A serialised dvs_msgs/EventArray; its first event lies without padding."""
    fields = {"x": "<u2", "y": "<u2", "sec": "<i4", "nsec": "<u4", "polarity": "u1"}
    layout = {"names": list(fields), "formats": list(fields.values()), "offsets": [0, 2, 6, 10, 14], "itemsize": 16}
    events = np.zeros(len(x), np.dtype(layout))
    events["x"], events["y"], events["nsec"] = x, y, t_us * 1000
    first = struct.pack("<HHiIBx", int(x[0]), int(y[0]), 0, int(t_us[0]) * 1000, 0)
    return struct.pack("<IiIIIII", 256, 0, 0, 0, HEIGHT, WIDTH, len(x)) + first + events[1:].tobytes()


def vectors() -> np.ndarray:
    """One packet as dense scenes make it: rows of 12 neighbouring pixels in one word, every other of them set."""
    generator = np.random.default_rng(2)
    runs = int(EVENTS_PER_S / PACKETS_PER_S / 6)
    words = np.empty((runs, 4), np.uint16)
    words[:, 0] = TIME_LOW << 12 | np.sort(generator.integers(0, 1 << 12, runs))
    words[:, 1] = ADDR_Y << 12 | generator.integers(0, HEIGHT, runs)
    words[:, 2] = VECT_BASE_X << 12 | generator.integers(0, WIDTH // 12, runs) * 12
    words[:, 3] = VECT_12 << 12 | generator.integers(0, 1 << 12, runs)
    return np.concatenate(([np.uint16(TIME_HIGH << 12)], words.reshape(-1))).astype("<u2").view(np.uint8)


def counting_ms(window: list[bytes], message_type: str, counter: EventCounter | None) -> float:
    intake, spent = EventIntake(decoder=EventPacketDecoder(counter)), []
    for _ in range(_ROUNDS):
        messages = [RawMessage("events", 0, memoryview(bytes(data))) for data in window]
        before, begun = intake.events, time.thread_time()
        for message in messages:
            add_event_message(intake, message, message_type, ros1=False)
        intake.take()
        spent.append((time.thread_time() - begun) / (intake.events - before))
    return median(spent) * 1e9


def decoding_ms(data: np.ndarray) -> float:
    decoder, spent = Evt3Decoder(WIDTH, HEIGHT), []
    for _ in range(10):
        begun = time.thread_time()
        events, _ = decoder.decode(data)
        spent.append((time.thread_time() - begun) / len(events))
    return median(spent) * 1e9
