# SPDX-License-Identifier: Apache-2.0
"""A video becomes a recording that replays."""

import argparse

import cv2
import numpy as np
import pytest

from edge_vlm import cli
from edge_vlm.commands import make_bag
from edge_vlm.observation import Events
from edge_vlm.sources.bag_writer import BagWriter
from edge_vlm.sources.observations import open_bag
from edge_vlm.sources.video import FIRST_STAMP_NS, open_video

MS = 1_000_000


@pytest.fixture
def clip(tmp_path):
    """A white square that moves over grey, eight frames, 20 a second."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (128, 96))
    for number in range(8):
        frame = np.full((96, 128, 3), 60, np.uint8)
        frame[30:60, 10 + 8 * number : 40 + 8 * number] = 230
        writer.write(frame)
    writer.release()
    return path


def make(*arguments) -> int:
    return cli.main(["make-bag", *map(str, arguments)])


def read(path):
    source = open_bag(path)
    observations = list(source)
    source.close()
    return source, observations


@pytest.mark.parametrize("name", ["out.mcap", "out"])
@pytest.mark.parametrize("raw", [False, True])
def test_images_keep_their_times_and_pixels(clip, tmp_path, name, raw, capsys):
    assert make(clip, "--events", "none", "--out", tmp_path / name, *(["--raw"] if raw else [])) == 0
    source, observations = read(tmp_path / name)
    originals = [o.frame for o in open_video(str(clip))]
    assert [o.stamp_ns for o in observations] == [frame.stamp_ns for frame in originals]
    assert [o.stamp_ns for o in observations] == [FIRST_STAMP_NS + n * 50 * MS for n in range(8)]
    difference = np.abs(observations[3].frame.image.astype(int) - originals[3].image).mean()
    assert difference == 0 if raw else difference < 3
    assert source.topics.image.message_type.endswith("/Image" if raw else "/CompressedImage")
    assert "8 frames" in capsys.readouterr().out


def test_frames_are_scaled_and_limited(clip, tmp_path):
    assert make(clip, "--events", "none", "--size", "64x32", "--max-frames", "3", "--out", tmp_path / "a.mcap") == 0
    _, observations = read(tmp_path / "a.mcap")
    assert [o.frame.image.shape for o in observations] == [(32, 64, 3)] * 3


def test_simulated_events_follow_what_moves(clip, tmp_path):
    pytest.importorskip("edge_vlm.sources.event_simulation")
    assert make(clip, "--events", "simulated", "--out", tmp_path / "a.mcap") == 0
    source, observations = read(tmp_path / "a.mcap")
    assert source.counts.event_packets > 7
    assert source.counts.events_outside == source.counts.event_packets_lost == 0
    moving = sum(o.events.counts for o in observations[1:])
    assert moving[4:9].sum() > 0.8 * moving.sum()  # the rows of the square, of fourteen
    assert all(o.events.total > 50 for o in observations[1:])
    assert all(o.events.duration_us <= 50_000 for o in observations)


def test_packets_are_short_and_complete_before_their_image(tmp_path):
    t_us = np.sort(np.random.default_rng(0).integers(1_000_000, 1_050_000, 3000))
    events = Events(t_us % 64, t_us % 48, t_us, t_us % 2 == 0, 64, 48)
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.add_event_stream("/events", events, 1_050_000_000)
        writer.add_image("/image", 1_050_000_000, np.zeros((8, 8, 3), np.uint8))
    source, (observation,) = read(tmp_path / "a.mcap")
    assert source.counts.event_packets == 5
    assert (observation.events.total, observation.events.hot_pixels) == (3000, 0)


def test_what_cannot_become_a_recording(clip, tmp_path, capsys):
    (tmp_path / "there.mcap").write_bytes(b"precious")
    cases = {
        "exists already": [clip, "--out", tmp_path / "there.mcap", "--events", "none"],
        "no video at": [tmp_path / "absent.mp4", "--out", tmp_path / "b.mcap"],
    }
    for said, arguments in cases.items():
        assert make(*arguments) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "remedy:" in error
    assert (tmp_path / "there.mcap").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.avi", "there.mcap"]


def test_an_interrupt_leaves_no_recording(clip, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(BagWriter, "add_image", interrupted)
    assert make(clip, "--events", "none", "--out", tmp_path / "a.mcap") == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.avi"]


@pytest.mark.parametrize("text", ["320", "320x", "axb", "1x1", "99999x10", "-5x5"])
def test_sizes_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError):
        make_bag._size(text)


@pytest.mark.parametrize(
    "video",
    [
        "intel_sample_videos/bottle-detection.mp4",
        "intel_sample_videos/one-by-one-person-detection.mp4",
        "udacity_carnd/solidWhiteRight.mp4",
    ],
)
def test_real_videos(shared_data, tmp_path, fake_pipeline, video):
    pytest.importorskip("edge_vlm.sources.event_simulation")
    path = tmp_path / "a.mcap"
    assert make(shared_data / "videos" / video, "--size", "320x240", "--max-frames", "40", "--out", path) == 0
    stamps = [o.stamp_ns for o, _ in zip(open_video(str(shared_data / "videos" / video)), range(40), strict=False)]
    passes = []
    for _ in range(2):
        source, observations = read(path)
        assert [o.stamp_ns for o in observations] == stamps
        assert source.counts.images == 40
        assert source.counts.events > 0
        passes.append([(o.frame.image.sum(), o.events.counts.tobytes()) for o in observations])
    assert passes[0] == passes[1]
