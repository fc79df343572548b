# SPDX-License-Identifier: Apache-2.0
"""Video files and cameras through OpenCV.

A file gives every frame, stamped with its place in the video; a camera gives the newest frame, stamped with the
clock, and counts those that nobody had the time to look at.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from edge_vlm.errors import SourceError
from edge_vlm.observation import Frame, Observation
from edge_vlm.sources.source import SourceCounts

NEWER_FRAME = "newer frame came first"
RECORDINGS = (".mcap", ".db3", ".bag")
FIRST_STAMP_NS = 1_000_000_000  # a stamp of zero means "no stamp" in ROS, so that videos begin at second 1
_CAMERA_SILENCE_S = 5.0


def open_video(name: str) -> VideoSource | CameraSource:
    """A camera by number or /dev/video path, anything else as a file or stream address.

    Raises:
        SourceError: it does not exist or cannot be opened.
    """
    is_camera = name.isdigit() or name.startswith("/dev/video")
    if not is_camera and "://" not in name:
        if not Path(name).exists():
            raise SourceError(f"no video at {name}", "give a video file, a camera number (0) or /dev/video0")
        if Path(name).is_dir():
            raise SourceError(f"{name} is a folder, no video", "replay recordings with: edge-vlm replay")
    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    if not capture.isOpened():
        capture.release()
        if is_camera:
            remedy = "check that it is plugged in, free, and that you may read it (group video)"
        elif "://" in name:
            remedy = "check the address, the network, and that the camera answers (try: ffprobe)"
        elif Path(name).suffix in RECORDINGS:
            remedy = "caption recordings with: edge-vlm replay"
        else:
            remedy = "it is damaged, cut, or of a format that this OpenCV cannot decode (try: ffprobe)"
        raise SourceError(f"cannot open {'camera' if is_camera else 'video'} {name}", remedy)
    return CameraSource(name, capture) if is_camera or "://" in name else VideoSource(name, capture)


@dataclass
class VideoSource:
    """Every frame of a video file. ``fps`` is the file's own, 0 where it does not tell."""

    name: str
    capture: cv2.VideoCapture
    counts: SourceCounts = field(default_factory=SourceCounts)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps < 1000 else 0.0
        count = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.expected_frames = int(count) if math.isfinite(count) and count > 0 else None

    def close(self) -> None:
        self.capture.release()

    def __iter__(self) -> Iterator[Observation]:
        """Observations without events.

        Raises:
            SourceError: not one frame can be decoded.
        """
        last_ms = -1.0
        while True:
            got, bgr = self.capture.read()
            if not got:
                break
            last_ms = self._time_ms(last_ms)
            self.counts.images += 1
            self.counts.frames += 1
            stamp_ns = FIRST_STAMP_NS + round(last_ms * 1e6)
            yield Observation(Frame(stamp_ns, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), "video"))
        if not self.counts.frames:
            raise SourceError(f"video {self.name} has no frame that can be decoded", "try it in a video player")
        if self.expected_frames and self.counts.frames < 0.9 * self.expected_frames:
            self.notes.append(
                f"video {self.name} announces {self.expected_frames} frames; {self.counts.frames} could be decoded"
            )

    def _time_ms(self, last_ms: float) -> float:
        """The frame's place in the video; from its number where the container's time is missing or stands still."""
        time_ms = self.capture.get(cv2.CAP_PROP_POS_MSEC)
        if math.isfinite(time_ms) and time_ms > last_ms:
            return time_ms
        self.counts.stamps_replaced += 1
        return max(self.counts.images * 1000.0 / (self.fps or 30.0), last_ms + 1.0)


@dataclass
class CameraSource:
    """The newest frame of a camera; a thread reads on meanwhile. Frames that were replaced before anybody looked at
    them are drops."""

    name: str
    capture: cv2.VideoCapture
    counts: SourceCounts = field(default_factory=SourceCounts)
    notes: list[str] = field(default_factory=list)
    expected_frames: int | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._closed = self._ended = False
        self._thread = threading.Thread(target=self._read, name="edge_vlm camera", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_CAMERA_SILENCE_S)
        self.capture.release()

    def __iter__(self) -> Iterator[Observation]:
        """Observations without events, until the camera is closed.

        Raises:
            SourceError: the camera went away or says nothing for five seconds.
        """
        while True:
            with self._changed:
                ready = self._changed.wait_for(lambda: self._newest or self._closed or self._ended, _CAMERA_SILENCE_S)
                if self._closed:
                    return
                frame, self._newest = self._newest, None
                if frame is not None:
                    self.counts.frames += 1
            if frame is None:
                what = "went away" if ready else f"gave no frame for {_CAMERA_SILENCE_S:.0f} s"
                raise SourceError(f"camera {self.name} {what}", "check its cable, and dmesg for USB errors")
            yield Observation(frame)

    def _read(self) -> None:
        while not self._closed:
            got, bgr = self.capture.read()
            if not got:
                break
            frame = Frame(time.time_ns(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), "camera")
            with self._changed:
                self.counts.images += 1
                if self._newest is not None:
                    self.counts.dropped[NEWER_FRAME] += 1
                self._newest = frame
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
