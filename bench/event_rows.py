# SPDX-License-Identifier: Apache-2.0
"""What counting events costs: serialised EVT3 packets to the counts per patch of a frame, on one core."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from bench.load import HEIGHT, PACKETS_PER_S, WIDTH, EventStream, event_packet
from bench.rows import Row
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_messages import add_event_message
from edge_vlm.sources.evt3 import ADDR_Y, TIME_HIGH, TIME_LOW, VECT_12, VECT_BASE_X, Evt3Decoder
from edge_vlm.sources.message_types import EVENT_PACKET

EVENTS_PER_S, FRAMES_PER_S = 10e6, 30
GOAL_MS = 5.0
_ROUNDS = 40


def event_rows() -> list[Row]:
    """Milliseconds per million events at 10 million a second and 30 frames: the window's packets in, counts out."""
    packets = {"a word each": EventStream(EVENTS_PER_S).data, "vectors of 12, half set": vectors()}
    return [
        Row(f"evt3 to counts per patch, {name}", counting_ms(data), "ms per million events", GOAL_MS)
        for name, data in packets.items()
    ] + [
        Row(f"evt3 to single events, {name}", decoding_ms(data), "ms per million events")
        for name, data in packets.items()
    ]


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


def counting_ms(data: np.ndarray) -> float:
    packets = [RawMessage("events", 0, memoryview(event_packet(data, number))) for number in range(4 * _ROUNDS)]
    per_frame, intake, spent = PACKETS_PER_S // FRAMES_PER_S, EventIntake(), []
    for number in range(_ROUNDS):
        before, begun = intake.events, time.thread_time()
        for packet in packets[number * per_frame : (number + 1) * per_frame]:
            add_event_message(intake, packet, EVENT_PACKET, ros1=False)
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
