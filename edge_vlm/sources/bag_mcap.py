# SPDX-License-Identifier: Apache-2.0
"""One .mcap file: by its index where it has one, record by record where it was cut.

The mcap package reads it, not rosbags, which refuses a file without footer and every profile but ``ros2``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mcap.reader import SeekingReader
from mcap.records import Channel, McapRecord, Message, Schema, Statistics
from mcap.stream_reader import StreamReader
from mcap.summary import Summary

from edge_vlm.errors import SourceError
from edge_vlm.sources.bag_storage import RawMessage, TopicInfo, damaged

_RECORD_LIMIT_BYTES = 1 << 30  # no chunk of a robot's recording is larger; damaged lengths are


class McapStorage:
    """A Storage of CDR (ROS 2) or ros1 serialised messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: SourceError | None = None
        self._stream = path.open("rb")
        self._summary = self._indexed_summary()
        channels, counts = self._scan() if self._summary is None else self._indexed(self._summary)
        self.ros1 = any(channel.message_encoding == "ros1" for channel, _ in channels.values())
        self.topics = _by_topic(channels, counts)

    def close(self) -> None:
        self._stream.close()

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        try:
            yield from self._by_index(topics) if self._summary is not None else self._in_file_order(topics)
        except Exception as error:  # noqa: BLE001 - damaged bytes make the decompressors raise whatever they like
            raise damaged(self.path, _said(error)) from error
        if self.damage is not None:
            raise self.damage

    def _indexed_summary(self) -> Summary | None:
        """The summary section, or None where the file has no usable index of its messages."""
        try:
            summary = SeekingReader(self._stream, record_size_limit=_RECORD_LIMIT_BYTES).get_summary()
        except Exception:  # noqa: BLE001 - as above; the scan then says what is wrong
            return None
        usable = summary is not None and summary.chunk_indexes and summary.channels and summary.statistics
        return summary if usable else None

    @staticmethod
    def _indexed(summary: Summary) -> tuple[dict[int, tuple[Channel, str]], Counter]:
        statistics: Statistics = summary.statistics
        channels = {
            number: (channel, summary.schemas[channel.schema_id].name if channel.schema_id else "")
            for number, channel in summary.channels.items()
        }
        return channels, Counter(statistics.channel_message_counts)

    def _scan(self) -> tuple[dict[int, tuple[Channel, str]], Counter]:
        """Read the file once for its channels and counts; a place that cannot be read becomes ``damage``."""
        schemas: dict[int, str] = {}
        channels: dict[int, tuple[Channel, str]] = {}
        counts: Counter = Counter()
        try:
            for record in self._records():
                if isinstance(record, Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, Channel):
                    channels[record.id] = (record, schemas.get(record.schema_id, ""))
                elif isinstance(record, Message):
                    counts[record.channel_id] += 1
        except Exception as error:  # noqa: BLE001 - as above
            self.damage = damaged(self.path, _said(error))
        return channels, counts

    def _records(self) -> Iterator[McapRecord]:
        self._stream.seek(0)
        return StreamReader(self._stream, validate_crcs=True, record_size_limit=_RECORD_LIMIT_BYTES).records

    def _by_index(self, topics: set[str]) -> Iterator[RawMessage]:
        reader = SeekingReader(self._stream, validate_crcs=True, record_size_limit=_RECORD_LIMIT_BYTES)
        for _, channel, message in reader.iter_messages(topics=sorted(topics), log_time_order=True):
            yield RawMessage(channel.topic, message.log_time, message.data)

    def _in_file_order(self, topics: set[str]) -> Iterator[RawMessage]:
        names: dict[int, str] = {}
        records = self._records()
        while True:
            try:
                record = next(records, None)
            except Exception:
                if self.damage is not None:
                    return  # the scan met it too and said so
                raise
            if record is None:
                return
            if isinstance(record, Channel):
                names[record.id] = record.topic
            elif isinstance(record, Message) and names.get(record.channel_id) in topics:
                yield RawMessage(names[record.channel_id], record.log_time, record.data)


def _by_topic(channels: dict[int, tuple[Channel, str]], counts: Counter) -> list[TopicInfo]:
    """Channels of the same topic (several publishers) taken together."""
    topics: dict[str, TopicInfo] = {}
    for number, (channel, message_type) in channels.items():
        before = topics.get(channel.topic)
        count = counts[number] + (before.message_count if before else 0)
        topics[channel.topic] = TopicInfo(channel.topic, message_type, count)
    return list(topics.values())


def _said(error: Exception) -> str:
    """What the reader said, or its kind where it said nothing (EndOfFile)."""
    return str(error) or {"EndOfFile": "it ends in the middle of a record"}.get(
        type(error).__name__, type(error).__name__
    )
