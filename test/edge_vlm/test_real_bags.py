# SPDX-License-Identifier: Apache-2.0
"""Recordings and videos as their makers left them. Expected sums are those that the makers' own decoders publish
(ros-event-camera/event_camera_codecs test/decoder_test.cpp, event_camera_py tests/test_1.py and test_2.py)."""

import numpy as np
import pytest

from edge_vlm.errors import SourceError
from edge_vlm.replay.output_folder import OutputFolder
from edge_vlm.replay.read_results import read_results
from edge_vlm.replay.record import MEASURED
from edge_vlm.replay.runner import run
from edge_vlm.sources.bag import open_recording
from edge_vlm.sources.event_frames import open_event_frames
from edge_vlm.sources.event_packets import EventPacketDecoder
from edge_vlm.sources.message_types import PACKET_TYPES, deserialised
from edge_vlm.sources.observations import open_bag

CODECS, PY = "events/bags/event_camera_codecs", "events/bags/event_camera_py"


def decode_all(path):
    """Sums over all events, with times in ns as the sensor's clock has them; checks order and coordinates."""
    sums = {"t_ns": 0, "x": 0, "y": 0, "on": 0, "count": 0, "outside": 0}
    decoder, last_us = EventPacketDecoder(), None
    with open_recording(path) as recording:
        (topic,) = [t for t in recording.topics.values() if t.message_type in PACKET_TYPES]
        for raw in recording.messages({topic.name}):
            packet = deserialised(raw.data, topic.message_type, recording.ros1)
            events, outside = decoder.decode(
                packet.encoding, packet.width, packet.height, packet.time_base, packet.events, packet.is_bigendian
            )
            sums["outside"] += outside
            if not len(events):
                continue
            assert np.all(np.diff(events.t_us) >= 0)
            assert last_us is None or events.t_us[0] >= last_us
            last_us = events.t_us[-1]
            assert events.x.max() < packet.width
            assert events.y.max() < packet.height
            below_us = packet.time_base % 1000 if packet.encoding == "libcaer" else 0
            sums["t_ns"] += sum(events.t_us.tolist()) * 1000 + below_us * len(events)
            sums["x"] += int(events.x.sum(dtype=np.int64))
            sums["y"] += int(events.y.sum(dtype=np.int64))
            sums["on"] += int(events.polarity.sum())
            sums["count"] += len(events)
    sums["t_ns"] %= 2**64
    return sums


@pytest.mark.parametrize(
    ("bag", "t_ns", "x", "y", "on"),
    [
        ("test_data_evt3_trigger", 1222326831810000, 42078718, 31656267, 41439),
        ("test_data_mono_cd", 4950000, 34450, 26450, 50),
        ("test_data_libcaer_rollover", 15762826572202229126, 111651612, 82801007, 181908),
    ],
)
def test_events_equal_those_of_event_camera_codecs(shared_data, bag, t_ns, x, y, on):
    sums = decode_all(shared_data / CODECS / bag)
    assert (sums["t_ns"], sums["x"], sums["y"], sums["on"], sums["outside"]) == (t_ns, x, y, on, 0)


@pytest.mark.parametrize(
    ("bag", "off", "on"),
    [
        ("test_events_1", 218291, 125183),  # evt3 640x480, db3
        ("test_events_1/test_events_1.db3", 218291, 125183),  # without its metadata
        ("test_events_1.bag", 218291, 125183),  # ROS 1
        ("test_events_2", 360223, 211043),  # libcaer_cmp 346x260, mcap, metadata without storage plugin
        ("test_events_2/test_events_2_0.mcap", 360223, 211043),
    ],
)
def test_events_equal_those_of_event_camera_py(shared_data, bag, off, on):
    sums = decode_all(shared_data / PY / bag)
    assert (sums["count"] - sums["on"], sums["on"], sums["outside"]) == (off, on, 0)


@pytest.mark.parametrize(
    ("bag", "stamps", "shape"),
    [
        ("amber/soccer_goal_12.mcap", [8297777777, 8331088888], (480, 640, 3)),  # zstd per message, sensor_msgs/Image
        ("klintan_rosbag2js/sample.db3", [1553145698459670219], (480, 640, 3)),  # header stamp zero
        ("ubiquity_fiducials/aruco_images.bag", [1491682360314066469], (960, 1280, 3)),  # ROS 1, CompressedImage
    ],
)
def test_image_bags(shared_data, bag, stamps, shape):
    source = open_bag(shared_data / "image_bags" / bag)
    observations = list(source)
    source.close()
    assert [o.stamp_ns for o in observations] == stamps
    assert all(o.frame.image.shape == shape and o.frame.image.std() > 10 for o in observations)
    assert source.counts.images == len(stamps)


def test_the_compressed_and_the_raw_topic_show_the_same(shared_data):
    path = shared_data / "image_bags/klintan_rosbag2js/sample.db3"
    pictures = []
    for topic in ("/image", "/image/compressed"):
        source = open_bag(path, image_topic=topic)
        pictures.extend(o.frame.image.astype(float) for o in source)
        source.close()
    assert pictures[0].shape == pictures[1].shape
    assert all(picture.std() > 10 for picture in pictures)


def test_event_bags_have_no_images_and_say_so(shared_data):
    with pytest.raises(SourceError, match="/event_camera/events") as caught:
        open_bag(shared_data / PY / "test_events_1")
    assert "--event-frames" in caught.value.remedy


class Silent:
    def begin(self, *_):
        return

    note = frame = end = begin


@pytest.mark.parametrize("bag", [f"{PY}/test_events_1", f"{PY}/test_events_2", f"{CODECS}/test_data_libcaer_rollover"])
def test_event_bags_replay_as_drawn_frames_the_same_twice(shared_data, tmp_path, fake_pipeline, bag):
    results = []
    for name in ("a", "b"):
        source = open_event_frames(shared_data / bag, 20.0)
        outcome = run(source, fake_pipeline(), Silent(), OutputFolder(tmp_path / name))
        source.close()
        assert outcome.error is None
        assert source.counts.images == source.counts.frames == outcome.summary.frames >= 20
        records = read_results(tmp_path / name).records
        assert sum(record["events"]["total"] for record in records) > 0.85 * source.counts.events
        results.append([{key: value for key, value in record.items() if key != MEASURED} for record in records])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("bag", "hot"),
    [
        (f"{CODECS}/test_data_libcaer_rollover", range(8, 80)),  # a DVXplorer with defects that fire in every window
        (f"{PY}/test_events_1", range(1)),
        (f"{PY}/test_events_2", range(1)),  # dense real motion, none of it taken for a defect
    ],
)
def test_hot_pixels_of_real_sensors(shared_data, bag, hot):
    source = open_event_frames(shared_data / bag, 20.0)
    found = [observation.events.hot_pixels for observation in source]
    source.close()
    assert all(count in hot for count in found[1:-1])


@pytest.mark.parametrize(
    "bag",
    [
        f"{CODECS}/test_data_evt3_trigger",
        f"{PY}/test_events_2",
        f"{PY}/test_events_1.bag",
        "image_bags/klintan_rosbag2js",
    ],
)
def test_real_files_cut_anywhere_end_in_a_source_error(shared_data, tmp_path, bag):
    path = shared_data / bag
    file = path if path.is_file() else next(f for f in path.iterdir() if f.suffix in (".db3", ".mcap"))
    data = file.read_bytes()
    copy = tmp_path / file.name
    for share in (0.001, 0.1, 0.33, 0.5, 0.75, 0.9, 0.9999):
        copy.write_bytes(data[: int(len(data) * share)])
        count = 0
        with pytest.raises(SourceError), open_recording(copy) as recording:
            for _ in recording.messages(set(recording.topics)):
                count += 1
        if share >= 0.9 and "events" in bag:
            assert count > 50
