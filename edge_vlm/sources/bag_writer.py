# SPDX-License-Identifier: Apache-2.0
"""Writes recordings (rosbag2, mcap) of images and event packets; nothing bears its name until it is whole."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from edge_vlm.errors import OutputError
from edge_vlm.observation import Events
from edge_vlm.sources.evt3 import encode_evt3
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE, STRING, typestore

_PACKET_US = 10_000  # event cameras send a packet every few milliseconds
_METADATA_VERSION = 8  # jazzy; later versions only change how QoS is written


class BagWriter:
    """A context manager. ``path`` ending in .mcap becomes one file, anything else a rosbag2 folder.

    Messages may come in any order; readers sort by the time of receipt. Leaving the block by an exception leaves
    nothing behind.

    Raises:
        OutputError: ``path`` exists already, or cannot be written (full disk).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._is_file = self.path.suffix == ".mcap"
        # rosbags names the file in the folder after the folder.
        self._temporary = self.path.with_name(f".{self.path.stem}.partial")
        self._folder = self._temporary / self.path.stem
        self._connections: dict[tuple[str, str], Connection] = {}
        self._sequence: dict[str, int] = {}
        self._types = typestore()

    def __enter__(self) -> BagWriter:
        if self.path.exists():
            raise OutputError(f"{self.path} exists already", "choose another name, or remove it first")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._writer = Writer(self._folder, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            self._temporary.mkdir(parents=True)
            self._writer.open()
        except BaseException as error:  # an interruption too leaves nothing behind
            shutil.rmtree(self._temporary, ignore_errors=True)
            if isinstance(error, OSError):
                raise self._cannot_write(error) from error
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with suppress(Exception):
                    self._writer.close()
                if isinstance(error, OSError):
                    raise self._cannot_write(error) from error
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def add_image(
        self, topic: str, stamp_ns: int, image: np.ndarray, frame_id: str = "camera", jpeg_quality: int | None = None
    ) -> None:
        """One RGB uint8 (height, width, 3) image: sensor_msgs/Image, or a CompressedImage where a quality is given."""
        header = self._header(stamp_ns, frame_id)
        if jpeg_quality is None:
            message = self._types.types[IMAGE](
                header, *image.shape[:2], "rgb8", 0, image.shape[1] * 3, np.ascontiguousarray(image).reshape(-1)
            )
            self._write(topic, IMAGE, stamp_ns, message)
            return
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
        message = self._types.types[COMPRESSED_IMAGE](header, "rgb8; jpeg compressed bgr8", data.reshape(-1))
        self._write(topic, COMPRESSED_IMAGE, stamp_ns, message)

    def add_events(self, topic: str, stamp_ns: int, receive_ns: int, events: Events, frame_id: str = "events") -> None:
        """One EVT3 packet. ``stamp_ns`` is the time of its first event, ``receive_ns`` when it is complete."""
        sequence = self._sequence.get(topic, 0)
        self._sequence[topic] = sequence + 1
        data = np.frombuffer(encode_evt3(events), np.uint8)
        message = self._types.types[EVENT_PACKET](
            self._header(stamp_ns, frame_id), events.height, events.width, sequence, 0, "evt3", False, data
        )
        self._write(topic, EVENT_PACKET, receive_ns, message)

    def add_event_stream(self, topic: str, events: Events, until_ns: int) -> None:
        """The events between two frames as packets of at most 10 ms; the last one is complete at ``until_ns``."""
        if not len(events):
            return
        slot = (events.t_us - events.t_us[0]) // _PACKET_US
        starts = np.flatnonzero(np.diff(slot, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(events)], strict=True):
            fields = (values[start:stop] for values in (events.x, events.y, events.t_us, events.polarity))
            part = Events(*fields, events.width, events.height)
            first_ns, last_ns = int(part.t_us[0]) * 1000, int(part.t_us[-1]) * 1000
            self.add_events(topic, first_ns, min(last_ns, until_ns), part)

    def add_text(self, topic: str, stamp_ns: int, text: str) -> None:
        """One std_msgs/String."""
        self._write(topic, STRING, stamp_ns, self._types.types[STRING](text))

    def _header(self, stamp_ns: int, frame_id: str):
        types = self._types.types
        time = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
        return types["std_msgs/msg/Header"](time, frame_id)

    def _write(self, topic: str, message_type: str, receive_ns: int, message) -> None:
        key = (topic, message_type)
        try:
            if key not in self._connections:
                self._connections[key] = self._writer.add_connection(topic, message_type, typestore=self._types)
            self._writer.write(self._connections[key], receive_ns, self._types.serialize_cdr(message, message_type))
        except OSError as error:
            raise self._cannot_write(error) from error

    def _finish(self) -> None:
        try:
            self._writer.close()
            if self._is_file:
                next(self._folder.glob("*.mcap")).replace(self.path)
            else:
                self._folder.replace(self.path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self.path}: {error.strerror or error}", "free disk space or check permissions"
        )
