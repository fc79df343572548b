# SPDX-License-Identifier: Apache-2.0
"""Recordings as observations: kinds of files, choice of topics, stamps, drops, cuts."""

import shutil
import tempfile

import cv2
import numpy as np
import pytest
import zstandard
from rosbags.rosbag1 import Writer as Ros1Writer

from edge_vlm.errors import SourceError
from edge_vlm.observation import Events
from edge_vlm.sources.bag import open_recording
from edge_vlm.sources.bag_writer import BagWriter
from edge_vlm.sources.event_frames import open_event_frames
from edge_vlm.sources.evt3 import encode_evt3
from edge_vlm.sources.message_types import typestore
from edge_vlm.sources.observations import open_bag
from edge_vlm.sources.stamps import StampFollower

SECOND = 1_000_000_000
STAMPS = [SECOND * n for n in range(1, 7)]


def some_events(first_us: int, count: int = 20) -> bytes:
    t_us = first_us + np.arange(count)
    return encode_evt3(Events(np.arange(count) % 32, np.arange(count) % 24, t_us, t_us % 2 == 0, 32, 24))


def images(messages, topic="/camera/image", stamps=STAMPS):
    return [(topic, stamp, messages.image(stamp)) for stamp in stamps]


def packets(messages, topic="/events", stamps=STAMPS):
    return [(topic, t - 1, messages.packet(t - SECOND, n, some_events(t // 1000))) for n, t in enumerate(stamps)]


def collect(source):
    try:
        return [observation.stamp_ns for observation in source]
    finally:
        source.close()


def read_until_error(source):
    """Stamps before the SourceError, and the error."""
    seen = []
    with pytest.raises(SourceError) as caught:
        for observation in source:
            seen.append(observation.stamp_ns)  # noqa: PERF401 - the list is what came before the error
    source.close()
    return seen, caught.value


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("bare", [False, True])
def test_images_and_events_of_folders_and_bare_files(tmp_path, messages, storage, bare):
    folder = messages.write(tmp_path / "bag", packets(messages) + images(messages), storage)
    path = next(file for file in folder.iterdir() if file.suffix in (".mcap", ".db3")) if bare else folder
    source = open_bag(path)
    observations = list(source)
    assert [o.stamp_ns for o in observations] == STAMPS
    assert [o.events.total for o in observations] == [20] * 6
    assert [o.events.duration_us for o in observations] == [19] + [1_000_000] * 5  # the first by its events alone
    assert observations[2].frame.image.shape == (12, 16, 3)
    assert observations[2].frame.frame_id == "camera"
    assert source.counts.images == source.counts.frames == source.expected_frames == 6
    assert source.counts.event_packets == 6
    assert source.notes == ["image topic /camera/image", "event topic /events"]
    source.close()


def test_a_folder_without_metadata_or_with_a_damaged_one(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", images(messages))
    metadata = folder / "metadata.yaml"
    metadata.write_text("rosbag2_bagfile_information: [")
    assert collect(open_bag(folder)) == STAMPS
    metadata.write_text(metadata.read_text().replace("mcap", '""'))
    assert collect(open_bag(folder)) == STAMPS
    metadata.unlink()
    assert collect(open_bag(folder)) == STAMPS


def test_split_recordings_are_read_in_the_order_of_their_numbers(tmp_path, messages):
    folder = tmp_path / "bag"
    folder.mkdir()
    for number in (2, 10, 1):
        part = messages.write(tmp_path / f"part{number}", images(messages, stamps=[SECOND * number]))
        shutil.copy(next(part.glob("*.mcap")), folder / f"bag_{number}.mcap")
    assert collect(open_bag(folder)) == [SECOND, 2 * SECOND, 10 * SECOND]


def test_a_split_recording_with_a_file_missing_names_it(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", images(messages))
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("- bag.mcap", "- bag.mcap\n  - bag_1.mcap"))
    with pytest.raises(SourceError, match=r"bag_1\.mcap"):
        open_bag(folder)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_messages_and_files_compressed_with_zstd(tmp_path, messages, storage):
    pack = zstandard.ZstdCompressor().compress
    packed = []
    for topic, receive_ns, message in images(messages):
        data = bytes(typestore().serialize_cdr(message, message.__msgtype__))
        packed.append((topic, receive_ns, (message.__msgtype__, pack(data))))
    folder = messages.write(tmp_path / "bag", packed, storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    assert collect(open_bag(file)) == STAMPS
    whole = folder / f"{file.name}.zstd"
    whole.write_bytes(pack(file.read_bytes()))
    file.unlink()
    (folder / "metadata.yaml").unlink()
    assert collect(open_bag(folder)) == STAMPS


def test_a_message_that_unpacks_to_more_than_fits_is_a_damaged_one(tmp_path, messages, monkeypatch):
    monkeypatch.setattr("edge_vlm.sources.bag._LARGEST_MESSAGE", 100)
    packed = zstandard.ZstdCompressor().compress(bytes(1000))
    folder = messages.write(tmp_path / "bag", [("/camera/image", SECOND, ("sensor_msgs/msg/Image", packed))])
    with open_recording(folder) as recording:
        assert [message.data for message in recording.messages({"/camera/image"})] == [packed]


def test_a_file_that_unpacks_to_more_than_the_disk_has_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bag_0.mcap.zstd"
    path.write_bytes(zstandard.ZstdCompressor().compress(bytes(30 << 20)))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(
        "edge_vlm.sources.bag.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, (1 << 28) + (3 << 20))
    )
    with pytest.raises(SourceError, match=f"{path} unpacks to more than the 0.0 GB free in {tmp_path}/edge_vlm_bag_"):
        open_recording(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("seconds", [-1, 2**31, 2**32 - 1, float("nan")])
def test_stamps_that_ros_2_cannot_hold_give_way_to_the_time_of_receipt(seconds):
    follower = StampFollower()
    assert follower.follow(seconds, 0, 7 * SECOND) == 7 * SECOND and follower.replaced == 1


def test_old_type_names(tmp_path, messages):
    old = [
        (t, r, ("sensor_msgs/msg/Image", bytes(typestore().serialize_cdr(m, m.__msgtype__))))
        for t, r, m in images(messages)
    ]
    folder = messages.write(tmp_path / "bag", old, "sqlite3")
    import sqlite3

    with sqlite3.connect(next(folder.glob("*.db3"))) as connection:
        connection.execute("UPDATE topics SET type = 'sensor_msgs/Image'")
    connection.close()
    assert collect(open_bag(next(folder.glob("*.db3")))) == STAMPS


def test_the_topic_with_the_most_messages_is_taken_and_said(tmp_path, messages):
    _, png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    few = [("/few", stamp, messages.compressed(stamp, png.tobytes())) for stamp in STAMPS[:2]]
    folder = messages.write(tmp_path / "bag", few + images(messages, "/many"))
    source = open_bag(folder)
    assert collect(source) == STAMPS
    assert source.notes == ["image topic /many (most messages); also there: /few"]
    assert collect(open_bag(folder, image_topic="few")) == STAMPS[:2]


def test_depth_is_not_captioned_where_there_is_colour(tmp_path, messages):
    listed = images(messages, "/cam/depth/image", STAMPS) + images(messages, "/cam/color/image", STAMPS[:3])
    source = open_bag(messages.write(tmp_path / "bag", listed))
    assert collect(source) == STAMPS[:3]
    assert collect(open_bag(tmp_path / "bag", "/cam/depth/image")) == STAMPS


def test_named_topics_must_be_there_and_of_their_kind(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", images(messages) + packets(messages))
    with pytest.raises(SourceError, match="/camera/image") as caught:
        open_bag(folder, image_topic="/nothing")
    assert "/events" in str(caught.value)
    with pytest.raises(SourceError, match="no image topic"):
        open_bag(folder, image_topic="/events")
    with pytest.raises(SourceError, match="no event topic"):
        open_bag(folder, event_topic="/camera/image")
    source = open_bag(folder, event_topic="none")
    assert [o.events for o in source] == [None] * 6
    source.close()


def test_a_recording_without_images_lists_its_topics_and_offers_event_frames(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", packets(messages))
    with pytest.raises(SourceError, match="/events") as caught:
        open_bag(folder)
    assert "--event-frames" in caught.value.remedy


def test_event_frames_draw_the_events_of_each_interval(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", packets(messages))
    source = open_event_frames(folder, rate_hz=1.0)
    observations = list(source)
    assert sum(o.events.total for o in observations) == 6 * 20
    assert all(o.frame.image.shape == (24, 32, 3) for o in observations)
    assert len({o.frame.image.tobytes() for o in observations}) > 0
    assert (np.array([o.frame.image.min() for o in observations]) < 128).all()
    assert np.all(np.diff([o.stamp_ns for o in observations]) >= SECOND)
    source.close()
    with pytest.raises(SourceError, match="0 Hz"):
        open_event_frames(folder, rate_hz=0)
    with pytest.raises(SourceError, match="pictures of events were asked for, and no events"):
        open_event_frames(folder, rate_hz=1.0, event_topic="none")


def test_missing_empty_and_foreign_paths(tmp_path):
    cases = {
        "no recording at": tmp_path / "absent",
        "is empty": tmp_path / "empty.mcap",
        "is no recording": tmp_path / "a.txt",
    }
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    for said, path in {**cases, "holds no recording": tmp_path / "folder"}.items():
        with pytest.raises(SourceError, match=said) as caught:
            open_bag(path)
        assert str(path) in caught.value.what
        assert caught.value.remedy


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_an_empty_recording(tmp_path, messages, storage):
    folder = messages.write(tmp_path / "bag", [], storage)
    with pytest.raises(SourceError, match="no image topic.*no topics at all"):
        open_bag(folder)


def noisy_image(messages, stamp, height=48, width=64):
    """Incompressible, so that a file's bytes are spread over its messages."""
    data = np.random.default_rng(stamp).integers(0, 256, height * width * 3, dtype=np.uint8)
    return messages.image(stamp, height=height, width=width, data=data)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kept", [0.5, 0.7, 0.9, 0.999])
def test_a_cut_recording_gives_what_is_there_and_then_the_error(tmp_path, messages, storage, kept):
    stamps = [SECOND * n for n in range(1, 300)]
    folder = messages.write(tmp_path / "bag", [("/image", s, noisy_image(messages, s)) for s in stamps], storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    seen, error = read_until_error(open_bag(folder))
    assert seen == stamps[: len(seen)]
    # mcap loses its last chunk of 1 MiB (114 images here), SQLite the messages of an index page
    assert len(seen) >= int(kept * len(stamps)) - 120
    assert str(file) in error.what
    assert "cut or damaged" in error.what


@pytest.mark.parametrize("compression", Ros1Writer.CompressionFormat)
def test_a_cut_ros1_bag(tmp_path, messages, monkeypatch, compression):
    path = tmp_path / "a.bag"
    store = typestore(ros1=True)
    writer = Ros1Writer(path)
    writer.set_compression(compression)
    with writer:
        connection = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp in STAMPS:
            image = noisy_image(messages, stamp)
            header = store.types["std_msgs/msg/Header"](7, image.header.stamp, "eye")
            image.header = header
            writer.write(connection, stamp + 5, store.serialize_ros1(image, image.__msgtype__))
    source = open_bag(path)
    observations = list(source)
    source.close()
    assert [o.stamp_ns for o in observations] == STAMPS
    assert observations[0].frame.frame_id == "eye"
    with monkeypatch.context() as small:
        small.setattr("edge_vlm.sources.bag_ros1._LARGEST_CHUNK", 1000)
        seen, error = read_until_error(open_bag(path))
    assert not seen and "a chunk of more than 0 MB" in error.what
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 200])  # the index at its end
    seen, error = read_until_error(open_bag(path))
    assert seen == STAMPS
    assert "no index" in error.what
    monkeypatch.setattr("edge_vlm.sources.bag_ros1._LARGEST_CHUNK", 1000)
    with pytest.raises(SourceError, match="no index"):
        open_bag(path)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_any_cut_ends_in_a_source_error_and_nothing_else(tmp_path, messages, storage):
    folder = messages.write(tmp_path / "bag", images(messages) + packets(messages), storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 60)):
        file.write_bytes(data[:length])
        with pytest.raises(SourceError):
            collect(open_bag(file))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_flipped_bytes_end_in_observations_or_a_source_error(tmp_path, messages, storage):
    folder = messages.write(tmp_path / "bag", images(messages) + packets(messages), storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, len(data), 8)] ^= rng.integers(1, 256, 8).astype(np.uint8)
        file.write_bytes(damaged.tobytes())
        try:
            source = open_bag(file)
            collect(source)
        except SourceError:
            continue
        assert source.counts.images == source.counts.frames + sum(source.counts.dropped.values())


def test_bad_images_are_dropped_with_their_reason_and_the_rest_is_used(tmp_path, messages):
    bad = [
        ("/image", SECOND, messages.image(SECOND)),
        ("/image", 2 * SECOND, messages.image(2 * SECOND, encoding="cmyk")),
        ("/image", 3 * SECOND, messages.image(3 * SECOND, step=3)),
        ("/image", 4 * SECOND, messages.image(4 * SECOND, height=0)),
        ("/image", 5 * SECOND, ("sensor_msgs/msg/Image", b"\x00\x01\x00\x00rubbish")),
        ("/image", 6 * SECOND, messages.image(6 * SECOND)),
    ]
    source = open_bag(messages.write(tmp_path / "bag", bad))
    assert collect(source) == [SECOND, 6 * SECOND]
    assert source.counts.images == 6
    assert dict(source.counts.dropped) == {
        "unknown image encoding 'cmyk'": 1,
        "wrong step": 1,
        "image without pixels": 1,
        "message cannot be deserialised": 1,
    }
    assert any("/image, message 2" in note for note in source.notes)


def test_only_bad_images_end_in_an_error_that_names_topic_and_remedy(tmp_path, messages):
    bad = [("/image", stamp, messages.image(stamp, encoding="cmyk")) for stamp in STAMPS]
    seen, error = read_until_error(open_bag(messages.write(tmp_path / "bag", bad)))
    assert seen == []
    assert "/image" in error.what
    assert "unknown image encoding 'cmyk'" in error.what
    assert "rgb8" in error.remedy


def test_stamps_that_are_missing_impossible_or_run_backward(tmp_path, messages):
    impossible = messages.header(SECOND)
    impossible.stamp.nanosec = 4_000_000_000
    negative = messages.header(SECOND)
    negative.stamp.sec = -5
    odd = [
        ("/image", 101, messages.image(2 * SECOND)),
        ("/image", 3 * SECOND, messages.image(SECOND, header=messages.header(0))),
        ("/image", 4 * SECOND, messages.image(SECOND, header=impossible)),
        ("/image", 5 * SECOND, messages.image(SECOND, header=negative)),
        ("/image", 6 * SECOND, messages.image(SECOND)),
    ]
    source = open_bag(messages.write(tmp_path / "bag", odd))
    assert collect(source) == [2 * SECOND, 3 * SECOND, 4 * SECOND, 5 * SECOND, SECOND]
    assert (source.counts.stamps_replaced, source.counts.stamps_backward) == (3, 1)
    assert sum("time of receipt" in note for note in source.notes) == 1
    assert sum("jumps back" in note for note in source.notes) == 1


def test_events_of_a_dropped_image_belong_to_the_next(tmp_path, messages):
    listed = packets(messages) + images(messages)
    listed = [
        (t, r, messages.image(r, encoding="cmyk") if (t, r) == ("/camera/image", STAMPS[2]) else m)
        for t, r, m in listed
    ]
    source = open_bag(messages.write(tmp_path / "bag", listed))
    assert [o.events.total for o in source] == [20, 20, 40, 20, 20]
    source.close()


def test_undecodable_event_packets_are_counted(tmp_path, messages):
    listed = images(messages) + [("/events", SECOND // 2, messages.packet(0, 0, b"", encoding="evt9"))]
    listed += [("/events", SECOND * 3 // 2, ("event_camera_msgs/msg/EventPacket", b"\x00\x01\x00\x00"))]
    source = open_bag(messages.write(tmp_path / "bag", listed))
    assert [o.events.lost for o in source] == [1, 1, 0, 0, 0, 0]
    assert sum(source.counts.event_packets_undecodable.values()) == 2
    assert any("evt9" in note for note in source.notes)
    source.close()


def test_two_passes_give_the_same(tmp_path, messages):
    folder = messages.write(tmp_path / "bag", packets(messages) + images(messages))
    first, second = (
        [(o.stamp_ns, o.frame.image.sum(), o.events.counts.sum()) for o in open_bag(folder)] for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("name", ["out.mcap", "out"])
@pytest.mark.parametrize("jpeg_quality", [None, 95])
def test_writer_and_reader_agree(tmp_path, name, jpeg_quality):
    path = tmp_path / name
    events = Events(np.arange(10), np.arange(10), 1_000_000 + np.arange(10) * 100, np.ones(10, bool), 32, 24)
    picture = np.full((24, 32, 3), (200, 100, 50), np.uint8)
    with BagWriter(path) as writer:
        writer.add_events("/events", SECOND, 2 * SECOND, events)
        writer.add_image("/image", 2 * SECOND, picture, jpeg_quality=jpeg_quality)
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]
    source = open_bag(path)
    (observation,) = source
    assert (observation.stamp_ns, observation.events.total, observation.events.duration_us) == (2 * SECOND, 10, 900)
    assert np.abs(observation.frame.image.astype(int) - picture).max() <= (0 if jpeg_quality is None else 4)
    source.close()


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "out.mcap") as writer:
        writer.add_image("/image", SECOND, np.zeros((4, 4, 3), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_writer_does_not_overwrite(tmp_path):
    from edge_vlm.errors import OutputError

    (tmp_path / "out.mcap").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"), BagWriter(tmp_path / "out.mcap"):
        pass
    assert (tmp_path / "out.mcap").read_bytes() == b"precious"


def test_recordings_close_their_files(tmp_path, messages):
    with open_recording(messages.write(tmp_path / "bag", images(messages))) as recording:
        assert recording.topics["/camera/image"].message_count == 6
    assert recording.storages == []
