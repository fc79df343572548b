# SPDX-License-Identifier: Apache-2.0
"""Video files and cameras."""

import time

import cv2
import numpy as np
import pytest

from edge_vlm.errors import SourceError
from edge_vlm.sources import video
from edge_vlm.sources.video import FIRST_STAMP_NS, NEWER_FRAME, CameraSource, VideoSource, open_video


@pytest.fixture
def clip(tmp_path):
    """Twelve frames, 10 a second, each brighter than the last."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), (0, 0, 20 * number), np.uint8))  # red in OpenCV's BGR
    writer.release()
    return path


def test_every_frame_of_a_video_with_its_place_in_time(clip):
    source = open_video(str(clip))
    observations = list(source)
    source.close()
    assert [o.stamp_ns for o in observations] == [FIRST_STAMP_NS + n * 100_000_000 for n in range(12)]
    assert [int(o.frame.image[24, 32, 0]) // 18 for o in observations[1:5]] == [1, 2, 3, 4]
    assert observations[9].frame.image[..., 2].max() < 30
    assert observations[0].events is None
    assert source.counts.images == source.counts.frames == source.expected_frames == 12


def test_paths_that_are_no_video(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    for name, said in (("absent.mp4", "no video at"), ("", "folder"), ("a.mp4", "cannot open video")):
        with pytest.raises(SourceError, match=said) as caught:
            open_video(str(tmp_path / name))
        assert caught.value.remedy
    with pytest.raises(SourceError, match="cannot open camera 97"):
        open_video("97")


class ScriptedCapture:
    """Stands in for cv2.VideoCapture. ``times_ms`` per frame; then it ends."""

    def __init__(self, times_ms=(), interval_s=0.0, frames=None):
        self.times_ms, self.interval_s, self.number = list(times_ms), interval_s, 0
        self.frames = len(self.times_ms) if frames is None else frames
        self.released = False

    def get(self, what):
        if what == cv2.CAP_PROP_POS_MSEC:
            return self.times_ms[self.number - 1]
        return {cv2.CAP_PROP_FPS: 25.0}.get(what, float("nan"))

    def read(self):
        time.sleep(self.interval_s)
        if self.number == self.frames:
            return False, None
        self.number += 1
        return True, np.full((4, 4, 3), self.number, np.uint8)

    def release(self):
        self.released = True


def test_times_that_are_missing_or_stand_still_are_made_from_the_frame_number():
    source = VideoSource("odd.mp4", ScriptedCapture([0.0, 40.0, float("nan"), 40.0, 10.0, 400.0]))
    stamps = [o.stamp_ns - FIRST_STAMP_NS for o in source]
    assert stamps == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000, 400_000_000]
    assert source.counts.stamps_replaced == 3
    assert source.expected_frames is None


def test_a_video_without_frames():
    with pytest.raises(SourceError, match="no frame"):
        list(VideoSource("empty.mp4", ScriptedCapture()))


def test_a_camera_gives_the_newest_frame_and_counts_the_others():
    camera = CameraSource("0", ScriptedCapture(interval_s=0.01, frames=60))
    stamps = []
    with pytest.raises(SourceError, match="went away"):
        for observation in camera:
            stamps.append(observation.stamp_ns)
            time.sleep(0.05)  # a slow pipeline
    camera.close()
    counts = camera.counts
    assert counts.images == counts.frames + counts.dropped[NEWER_FRAME] == 60
    assert counts.dropped[NEWER_FRAME] > 10
    assert stamps == sorted(stamps)
    assert camera.capture.released


def test_a_camera_that_says_nothing(monkeypatch):
    monkeypatch.setattr(video, "_CAMERA_SILENCE_S", 0.1)
    camera = CameraSource("0", ScriptedCapture(interval_s=0.5, frames=1))
    with pytest.raises(SourceError, match="gave no frame"):
        next(iter(camera))
    camera.close()


def test_a_closed_camera_ends_the_loop():
    camera = CameraSource("0", ScriptedCapture(interval_s=0.01, frames=1000))
    seen = 0
    for _ in camera:
        seen += 1
        if seen == 3:
            camera.close()
    assert seen == 3
