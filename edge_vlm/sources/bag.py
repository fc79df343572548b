# SPDX-License-Identifier: Apache-2.0
"""A recording as its user sees it: a rosbag2 folder, a bare .mcap or .db3, or a ROS 1 .bag."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
import zstandard

from edge_vlm.errors import SourceError
from edge_vlm.sources.bag_mcap import McapStorage
from edge_vlm.sources.bag_ros1 import Ros1Storage
from edge_vlm.sources.bag_sqlite import SqliteStorage
from edge_vlm.sources.bag_storage import RERECORD, RawMessage, Storage, TopicInfo
from edge_vlm.sources.message_types import normalised

_SUFFIXES = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")
_LARGEST_MESSAGE = 1 << 28  # bytes, unpacked; a few kilobytes of zstd can claim any size
_KEPT_FREE = 1 << 28  # bytes of the disk that files are unpacked to
_PIECE = 1 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # no CDR message begins so: its first byte is 0


@dataclass
class Recording:
    """The files of one recording, in order. A context manager.

    ``topics`` by name, with message types as ROS 2 writes them now; counts are those of what can be read.
    """

    path: Path
    storages: list[Storage]
    topics: dict[str, TopicInfo] = field(default_factory=dict)
    _unpacked: TemporaryDirectory | None = field(default=None, repr=False)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for storage in self.storages:
            storage.close()
        self.storages.clear()
        if self._unpacked is not None:
            self._unpacked.cleanup()

    @property
    def ros1(self) -> bool:
        """Whether messages are ROS 1 serialised (without CDR's head)."""
        return any(storage.ros1 for storage in self.storages)

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        """Messages of the topics in order of receipt, decompressed.

        Raises:
            SourceError: after everything that can be read, where a file is cut or damaged.
        """
        damage: SourceError | None = None
        for storage in self.storages:
            try:
                for message in storage.messages(topics):
                    yield replace(message, data=_inflated(message.data))
            except SourceError as error:  # noqa: PERF203 - once per file
                damage = damage or error
        if damage is not None:
            raise damage


def open_recording(path: str | Path) -> Recording:
    """Open a recording: a folder of .mcap / .db3 files with or without metadata.yaml, or one such file, or a .bag.

    Raises:
        SourceError: missing, empty, or no recording.
    """
    path = Path(path)
    files = _files(path)
    recording = Recording(path, [])
    try:
        for file in files:
            recording.storages.append(_open_storage(_unpacked(file, recording)))
    except BaseException:
        recording.close()
        raise
    for storage in recording.storages:
        for topic in storage.topics:
            before = recording.topics.get(topic.name)
            count = topic.message_count + (before.message_count if before else 0)
            recording.topics[topic.name] = TopicInfo(topic.name, normalised(topic.message_type), count)
    return recording


def _open_storage(path: Path) -> Storage:
    """Open one .mcap, .db3 or .bag file.

    Raises:
        SourceError: not a recording, or nothing of it can be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    if head.startswith(b"\x89MCAP0\r\n"):
        return McapStorage(path)
    if head.startswith(b"SQLite format 3\0"):
        return SqliteStorage(path)
    if head.startswith(b"#ROSBAG V2.0"):
        return Ros1Storage(path)
    if not head:
        raise SourceError(f"{path} is empty (0 bytes)", RERECORD)
    raise SourceError(
        f"{path} is no recording: neither mcap, sqlite3 (.db3) nor ROS 1 bag",
        "give a rosbag2 folder, .mcap, .db3 or .bag; caption videos with: edge-vlm watch",
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"no recording at {path}", "check the path; give a rosbag2 folder, .mcap, .db3 or .bag")
    if not path.is_dir():
        return [path]
    listed = _listed(path / "metadata.yaml")
    present = [file for file in listed if file.exists()]
    if present and len(present) < len(listed):
        missing = ", ".join(file.name for file in listed if not file.exists())
        raise SourceError(f"{path} lacks files that its metadata.yaml lists: {missing}", "copy the whole folder")
    found = present or sorted((f for f in path.iterdir() if f.name.endswith(_SUFFIXES)), key=_numbered)
    if not found:
        raise SourceError(
            f"{path} holds no recording: no .mcap, .db3 or .bag in it", "give the folder with these files"
        )
    return found


def _listed(metadata: Path) -> list[Path]:
    """The files that metadata.yaml names, none where it is absent or unreadable: the files themselves say the rest."""
    try:
        information = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        # Early recorders wrote the folder's name in front.
        return [metadata.parent / Path(name).name for name in information["relative_file_paths"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        return []


def _numbered(file: Path) -> tuple:
    """bag_2 before bag_10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name))


def _unpacked(file: Path, recording: Recording) -> Path:
    """The file itself, or its decompressed copy where the recorder compressed whole files (.zstd)."""
    if file.suffix != ".zstd":
        return file
    if recording._unpacked is None:
        recording._unpacked = TemporaryDirectory(prefix="edge_vlm_bag_")
    target = Path(recording._unpacked.name) / file.stem
    room = shutil.disk_usage(target.parent).free - _KEPT_FREE
    try:
        with file.open("rb") as packed, target.open("wb") as plain:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            while piece := stream.read(_PIECE):
                if plain.tell() + len(piece) > room:
                    raise SourceError(
                        f"{file} unpacks to more than the {max(0, room) / 1e9:.1f} GB free in {target.parent}",
                        "set TMPDIR to a folder on a larger disk, or unpack it there: zstd -d",
                    )
                plain.write(piece)
    except zstandard.ZstdError as error:
        raise SourceError(f"cannot decompress {file}: {error}", RERECORD) from error
    except OSError as error:
        raise SourceError(f"cannot unpack {file} to {target.parent}: {error.strerror}", "free space there") from error
    return target


def _inflated(data: bytes) -> bytes:
    """A message without its own compression (rosbag2's ``message`` mode), which bare files do not tell."""
    if data[:4] != _ZSTD_MAGIC:
        return data
    try:
        plain = zstandard.ZstdDecompressor().stream_reader(data).read(_LARGEST_MESSAGE + 1)
    except zstandard.ZstdError:
        return data  # the decoder of its type then says that it is damaged
    return plain if len(plain) <= _LARGEST_MESSAGE else data
