# SPDX-License-Identifier: Apache-2.0
"""Recordings through the real pipeline with a tiny model, in both engines."""

import json

import cv2
import numpy as np
import pytest

from edge_vlm import cli
from edge_vlm.observation import Events
from edge_vlm.replay.record import MEASURED
from edge_vlm.runtime.interpreter import why_not_litert
from edge_vlm.sources.bag_writer import BagWriter
from edge_vlm.sources.observations import open_bag

SECOND = 1_000_000_000


@pytest.fixture(autouse=True, params=["numpy", "litert"])
def engine(monkeypatch, request):
    monkeypatch.delenv("EDGE_VLM_RUNTIME", raising=False)
    if request.param == "numpy":
        monkeypatch.setenv("EDGE_VLM_RUNTIME", "numpy")
    elif reason := why_not_litert(1):
        pytest.skip(reason)


@pytest.fixture
def bag(tmp_path):
    """A bright square: still for eight frames, then moving for eight; with its events."""
    path = tmp_path / "scene.mcap"
    rng = np.random.default_rng(1)
    background = cv2.resize(rng.integers(60, 120, (12, 16, 3), dtype=np.uint8), (160, 120))
    with BagWriter(path) as writer:
        for number in range(16):
            stamp_ns = SECOND + number * 50_000_000
            left = 20 + 8 * max(0, number - 7)
            image = background.copy()
            image[40:80, left : left + 40] = 240
            if number > 7:
                y, edge = (axis.reshape(-1) for axis in np.mgrid[40:80, 0:16])
                x = np.where(edge < 8, left - 8 + edge, left + 24 + edge)
                t_us = np.sort(rng.integers(stamp_ns // 1000 - 50_000, stamp_ns // 1000, len(x)))
                events = Events(x.astype(np.uint16), y.astype(np.uint16), t_us, edge > 7, 160, 120)
                writer.add_events("/events", int(t_us[0]) * 1000, stamp_ns, events)
            writer.add_image("/image", stamp_ns, image)
    return path


def replay(bag, bundle, out, *options) -> tuple[int, list[dict]]:
    status = cli.main(["replay", str(bag), "--bundle", str(bundle), "--out", str(out), *options])
    return status, [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]


def test_two_replays_are_equal_and_still_parts_are_reused(bag, tiny_bundle, tmp_path):
    runs = []
    for name in ("a", "b"):
        status, records = replay(bag, tiny_bundle, tmp_path / name)
        assert status == 0
        runs.append([{key: value for key, value in record.items() if key != MEASURED} for record in records])
    assert runs[0] == runs[1]
    records = runs[0]
    assert [record["stamp_ns"] for record in records] == [SECOND + n * 50_000_000 for n in range(16)]
    assert records[0]["tokens_computed"] == records[0]["tokens_total"] == 64
    assert records[0]["caption"]
    assert sum(record["tokens_computed"] for record in records[1:8]) < 0.2 * 7 * 64


def test_the_parity_switch_computes_everything(bag, tiny_bundle, tmp_path):
    status, records = replay(bag, tiny_bundle, tmp_path / "full", "--reuse", "off")
    assert status == 0
    assert {record["branch"] for record in records} == {"full"}
    assert all(record["tokens_computed"] == 64 for record in records)
    assert all(record["caption_refreshed"] for record in records)


def test_a_stamp_that_jumps_back_resets_the_caches_and_is_counted(tiny_bundle, tmp_path, messages):
    stamps = [n * SECOND for n in (5, 6, 7, 2, 3)]
    folder = messages.write(
        tmp_path / "bag", [("/image", SECOND * n, messages.image(stamp)) for n, stamp in enumerate(stamps, 1)]
    )
    status, records = replay(folder, tiny_bundle, tmp_path / "out")
    assert status == 0
    assert [bool(record["reset_reason"]) for record in records] == [False, False, False, True, False]
    assert records[3]["tokens_computed"] == 64
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["input"]["stamps_backward"] == 1
    assert sum(summary["resets"].values()) == 1


def test_a_video_is_watched(tiny_bundle, tmp_path, capsys):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(4):
        writer.write(np.full((48, 64, 3), 50 * number, np.uint8))
    writer.release()
    assert cli.main(["watch", str(path), "--bundle", str(tiny_bundle)]) == 0
    assert "4 captioned of 4 images" in capsys.readouterr().out


REAL = [
    ("image_bags/amber/soccer_goal_12.mcap", ()),
    ("image_bags/klintan_rosbag2js/sample.db3", ()),
    ("image_bags/ubiquity_fiducials/aruco_images.bag", ()),
    ("events/bags/event_camera_codecs/test_data_evt3_trigger", ("--event-frames", "20")),
    ("events/bags/event_camera_codecs/test_data_libcaer_rollover", ("--event-frames", "20")),
    ("events/bags/event_camera_py/test_events_1", ("--event-frames", "20")),
    ("events/bags/event_camera_py/test_events_2", ("--event-frames", "20")),
    ("videos/intel_sample_videos/bottle-detection.mp4", ()),
    ("videos/intel_sample_videos/one-by-one-person-detection.mp4", ()),
    ("videos/udacity_carnd/solidWhiteRight.mp4", ()),
]


@pytest.mark.parametrize(("name", "options"), REAL)
def test_real_recordings_and_videos_twice(shared_data, tiny_bundle, tmp_path, name, options):
    """One report for every image, the messages' own stamps, and the same in both replays."""
    path = shared_data / name
    if path.suffix == ".mp4":
        path = tmp_path / "video.mcap"
        arguments = ["--size", "160x120", "--max-frames", "24", "--events", "simulated", "--out", str(path)]
        assert cli.main(["make-bag", str(shared_data / name), *arguments]) == 0
    runs = []
    for run in ("a", "b"):
        status, records = replay(path, tiny_bundle, tmp_path / run, *options)
        assert status == 0
        summary = json.loads((tmp_path / run / "summary.json").read_text())
        assert summary["input"]["images"] == summary["frames"] == len(records) > 0
        runs.append([{key: value for key, value in record.items() if key != MEASURED} for record in records])
    assert runs[0] == runs[1]
    if not options:
        source = open_bag(path)
        assert [record["stamp_ns"] for record in runs[0]] == [observation.stamp_ns for observation in source]
        source.close()
