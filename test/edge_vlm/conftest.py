# SPDX-License-Identifier: Apache-2.0
"""Recordings made for tests, and a pipeline without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from rosbags.rosbag2 import StoragePlugin, Writer

from edge_vlm.sources.message_types import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE, typestore
from edge_vlm.step_report import Caption, Energy, StepReport

SECOND = 1_000_000_000

settings.register_profile("repeatable", derandomize=True, database=None)  # the same cases everywhere, no files
settings.load_profile("repeatable")


class Messages:
    """Builds messages and writes them as a rosbag2 recording, right or wrong as the test wants them."""

    types = typestore().types

    def header(self, stamp_ns: int, frame_id: str = "camera"):
        time = self.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, SECOND))
        return self.types["std_msgs/msg/Header"](time, frame_id)

    def image(self, stamp_ns: int, encoding: str = "rgb8", height: int = 12, width: int = 16, **fields):
        """A raw image of one grey; ``fields`` (step, data, header) replace what would be right."""
        data = np.full(height * width * 3, stamp_ns % 251, np.uint8)
        right = {"header": self.header(stamp_ns), "step": width * 3, "data": data} | fields
        return self.types[IMAGE](right["header"], height, width, encoding, 0, right["step"], right["data"])

    def compressed(self, stamp_ns: int, data: bytes, format_name: str = "jpeg"):
        return self.types[COMPRESSED_IMAGE](self.header(stamp_ns), format_name, np.frombuffer(data, np.uint8))

    def packet(self, stamp_ns: int, seq: int, data: bytes, encoding: str = "evt3", width: int = 32, height: int = 24):
        return self.types[EVENT_PACKET](
            self.header(stamp_ns), height, width, seq, 0, encoding, False, np.frombuffer(data, np.uint8)
        )

    def write(self, path: Path, messages: list, storage: str = "mcap") -> Path:
        """``messages``: (topic, receive_ns, message or bytes with its type as ("type", bytes))."""
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        connections = {}
        with Writer(path, version=8, storage_plugin=plugin) as writer:
            for topic, receive_ns, message in messages:
                kind, data = message if isinstance(message, tuple) else (message.__msgtype__, None)
                if data is None:
                    data = typestore().serialize_cdr(message, kind)
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
                writer.write(connections[topic], receive_ns, bytes(data))
        return path


@pytest.fixture
def messages() -> Messages:
    return Messages()


class FakePipeline:
    """Reports without a model: one more column of patches each frame, a new caption every ``every`` frames.

    ``fail`` maps frame numbers to what ``step`` raises there.
    """

    grid = (14, 14)

    def __init__(self, every: int = 3, fail: dict | None = None) -> None:
        self.every, self.fail = every, fail or {}
        self.steps = 0
        self.closed = False

    def step(self, observation) -> StepReport:
        number = self.steps
        self.steps += 1
        if number in self.fail:
            raise self.fail[number]
        active = np.zeros(self.grid, bool)
        active[:, : number % 14] = True
        stamp_ns = observation.stamp_ns
        return StepReport(
            index=number,
            stamp_ns=stamp_ns,
            frame_id=observation.frame.frame_id,
            branch="full" if number == 0 else "sparse",
            branch_reason="test",
            tokens_computed=int(active.sum()),
            tokens_total=active.size,
            caption=Caption(f"mean grey {int(observation.frame.image.mean())}", 0.5, stamp_ns),
            caption_refreshed=number % self.every == 0,
            caption_reason="every few frames",
            staleness_ms=0.0,
            stage_ms={"encode": 1.0 + number, "decode": 2.0},
            total_ms=3.0 + number,
            energy=Energy(None, "unavailable", "no sensor in tests"),
            encoder_macs=int(active.sum()) * 10,
            active=active,
        )

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake_pipeline() -> type[FakePipeline]:
    return FakePipeline
