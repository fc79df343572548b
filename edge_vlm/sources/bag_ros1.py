# SPDX-License-Identifier: Apache-2.0
"""One ROS 1 .bag file: through rosbags where it has its index, record by record where it was cut.

Format 2.0: records of a header (fields ``name=value``, each behind its length) and data, each behind its length,
all little-endian. Op 5 is a chunk of records, 7 a connection (topic, type), 2 a message.
"""

from __future__ import annotations

import bz2
import struct
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from rosbags.rosbag1 import Reader, ReaderError

from edge_vlm.errors import SourceError
from edge_vlm.sources.bag_storage import RawMessage, TopicInfo, damaged

_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7
_LARGEST_CHUNK = 1 << 28  # bytes, unpacked; recorders begin a new one at 768 kB
_FIRST_RECORD = len("#ROSBAG V2.0\n")


class Ros1Storage:
    """A Storage of ros1 serialised messages."""

    ros1 = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: SourceError | None = None
        self._reader: Reader | None = Reader(path)
        try:
            self._reader.open()
            self._reader.chunks = {
                at: chunk._replace(decompressor=_BOUNDED.get(chunk.decompressor, chunk.decompressor))
                for at, chunk in self._reader.chunks.items()
            }
        except (ReaderError, struct.error, KeyError, ValueError, AssertionError) as error:
            self._reader = None
            self.damage = damaged(path, f"it has no index ({error})")
            self.topics = self._scan()
            return
        counts: Counter = Counter()
        types: dict[str, str] = {}
        for connection in self._reader.connections:
            counts[connection.topic] += connection.msgcount
            types[connection.topic] = connection.msgtype
        self.topics = [TopicInfo(name, types[name], counts[name]) for name in types]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        if self._reader is not None:
            wanted = [connection for connection in self._reader.connections if connection.topic in topics]
            try:
                for connection, receive_ns, data in self._reader.messages(connections=wanted):
                    yield RawMessage(connection.topic, receive_ns, data)
            except Exception as error:  # noqa: BLE001 - damaged chunks make the decompressors raise whatever they like
                raise damaged(self.path, error) from error
            return
        with self.path.open("rb") as stream:
            for topic, _, receive_ns, data in _readable(stream):
                if topic in topics:
                    yield RawMessage(topic, receive_ns, data)
        raise self.damage

    def _scan(self) -> list[TopicInfo]:
        counts: Counter = Counter()
        with self.path.open("rb") as stream:
            for topic, message_type, _, _ in _readable(stream):
                counts[(topic, message_type)] += 1
        return [TopicInfo(topic, message_type, count) for (topic, message_type), count in counts.items()]


def _readable(stream: BinaryIO) -> Iterator[tuple[str, str, int, bytes]]:
    """Topic, type, receive time in ns and data of the messages before the cut, in file order."""
    stream.seek(_FIRST_RECORD)
    connections: dict[int, tuple[str, str]] = {}
    try:
        for fields, data in _records(stream):
            inner = _records(BytesIO(_decompressed(fields, data))) if fields["op"][0] == _CHUNK else [(fields, data)]
            for record, content in inner:
                if record["op"][0] == _CONNECTION:
                    described = dict(_fields(content))
                    connections[_uint32(record["conn"])] = (record["topic"].decode(), described["type"].decode())
                elif record["op"][0] == _MESSAGE:
                    seconds, nanoseconds = struct.unpack("<II", record["time"])
                    yield *connections[_uint32(record["conn"])], seconds * 10**9 + nanoseconds, content
    except Exception:  # noqa: BLE001 - half a chunk fails in whatever way its decompressor likes: here is the cut
        return


def _records(stream: BinaryIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    while (length := stream.read(4)) != b"":
        fields = dict(_fields(_exactly(stream, _uint32(length))))
        yield fields, _exactly(stream, _uint32(_exactly(stream, 4)))


def _fields(header: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(header):
        length = _uint32(header[at : at + 4])
        name, _, value = header[at + 4 : at + 4 + length].partition(b"=")
        yield name.decode(), value
        at += 4 + length


def _decompressed(fields: dict[str, bytes], data: bytes) -> bytes:
    """A chunk's records."""
    unpack = {b"bz2": _bz2, b"lz4": _lz4}.get(fields["compression"])
    return data if unpack is None else unpack(data)


def _bz2(data: bytes) -> bytes:
    return _bounded(bz2.BZ2Decompressor(), data)


def _lz4(data: bytes) -> bytes:
    return _bounded(lz4.frame.LZ4FrameDecompressor(), data)


def _bounded(decompressor, data: bytes) -> bytes:
    """Raises EOFError for more than a recorder puts into a chunk: a few kilobytes can claim any size."""
    plain = decompressor.decompress(data, max_length=_LARGEST_CHUNK + 1)
    if len(plain) > _LARGEST_CHUNK:
        raise EOFError(f"a chunk of more than {_LARGEST_CHUNK >> 20} MB")
    return plain


_BOUNDED = {bz2.decompress: _bz2, lz4.frame.decompress: _lz4}  # in place of what rosbags takes


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _uint32(data: bytes) -> int:
    return struct.unpack("<I", data)[0]
