# SPDX-License-Identifier: Apache-2.0
"""Labelled event recordings: AEDAT 3.1, the DVS128 Gesture folder, N-MNIST, and what of them is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edge_vlm.errors import SourceError
from edge_vlm.sources.aedat import read_aedat
from edge_vlm.sources.dvs_gesture import GESTURES, list_recordings, read_gestures, read_trials
from edge_vlm.sources.nmnist import read_bin, read_nmnist

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-05-04\r\n#!END-HEADER\r\n"


def packet(events, overflows=0, event_type=1, event_bytes=8, number=None) -> bytes:
    """``events``: (x, y, polarity, t_us, valid); ``number`` in place of how many there are."""
    count = len(events) if number is None else number
    head = struct.pack("<hhiiiiii", event_type, 1, event_bytes, 4, overflows, count, count, count)
    words = [(valid | polarity << 1 | y << 2 | x << 17, t_us) for x, y, polarity, t_us, valid in events]
    return head + b"".join(struct.pack("<Ii", *word) for word in words)


def write(path: Path, *packets: bytes, header: bytes = HEADER) -> Path:
    path.write_bytes(header + b"".join(packets))
    return path


def test_polarity_events_are_read_and_everything_else_is_skipped(tmp_path):
    special = struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + b"\x01" * 8
    first = packet([(3, 5, 1, 100, 1), (127, 127, 0, 200, 1), (9, 9, 1, 250, 0)])  # the last one is not valid
    late = packet([(0, 1, 0, 7, 1), (200, 4, 1, 8, 1)], overflows=1)  # the second is off the sensor
    events = read_aedat(write(tmp_path / "a.aedat", first, special, packet([]), late))
    assert events.x.tolist() == [3, 127, 0]
    assert events.y.tolist() == [5, 127, 1]
    assert events.polarity.tolist() == [True, False, False]
    assert events.t_us.tolist() == [100, 200, (1 << 31) + 7]
    assert (events.width, events.height) == (128, 128)


def test_packets_that_interleave_are_put_in_time_order(tmp_path):
    events = read_aedat(write(tmp_path / "a.aedat", packet([(1, 0, 1, 50, 1)]), packet([(2, 0, 1, 20, 1)])))
    assert events.t_us.tolist() == [20, 50]
    assert events.x.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cannot be read"),
        (b"RIFF....", "not an AEDAT file"),
        (b"#!AER-DAT2.0\r\n#!END-HEADER\r\n", "version '2.0'"),
        (b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n", "no end"),
        (b"#!AER-DAT3.1\r\n#Source 1: Retina9\r\n#!END-HEADER\r\n", "no known sensor.*Retina9"),
        (HEADER, "not one valid event"),
        (HEADER + packet([(1, 1, 1, 5, 1)])[:20], "cut within the packet head"),
        (HEADER + packet([(1, 1, 1, 5, 1)])[:-3], "the file is cut"),
        (HEADER + packet([(1, 1, 1, 5, 1)], number=2_000_000_000), "2000000000 events of 8 bytes"),
        (HEADER + packet([(1, 1, 1, 5, 1)], number=-1), "impossible packet head"),
        (HEADER + packet([], event_bytes=0), "impossible packet head"),
        (HEADER + packet([], event_bytes=12), "polarity events of 12 bytes"),
    ],
)
def test_a_malformed_recording_is_refused_by_name_with_a_remedy(tmp_path, content, what):
    path = tmp_path / "user01.aedat"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=what) as caught:
        read_aedat(path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


def gesture_folder(folder: Path, labels: str = "class,startTime_usec,endTime_usec\n8,0,100\n11,100,300\n") -> Path:
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    for user in ("user01", "user24"):
        write(folder / f"{user}_led.aedat", packet([(k, 1, 1, 50 * k, 1) for k in range(1, 6)]))
        (folder / f"{user}_led_labels.csv").write_text(labels)
    return folder


def test_gestures_are_cut_from_their_recordings_by_the_labels(tmp_path):
    clips = list(read_gestures(gesture_folder(tmp_path)))
    assert [(clip.name, clip.is_test) for clip in clips] == [
        ("user01_led/0", False), ("user01_led/1", False), ("user24_led/0", True), ("user24_led/1", True)
    ]  # fmt: skip
    assert [GESTURES[clip.label] for clip in clips[:2]] == ["arm roll", "other gestures"]
    assert clips[0].events.t_us.tolist() == [50]
    assert clips[1].events.t_us.tolist() == [100, 150, 200, 250]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ("class,startTime_usec,endTime_usec\n12,0,100\n", "line 2: impossible class or times"),
        ("class,startTime_usec,endTime_usec\n3,100,100\n", "line 2: impossible"),
        ("class,startTime_usec,endTime_usec\n3,a\n", "line 2: not class"),
        ("class,startTime_usec,endTime_usec\n", "no gestures"),
    ],
)
def test_malformed_labels_are_refused_by_name(tmp_path, labels, what):
    folder = gesture_folder(tmp_path, labels)
    with pytest.raises(SourceError, match=f"user01_led_labels.csv.*{what}"):
        read_trials(folder / "user01_led.aedat")


def test_a_folder_that_lacks_something_says_what(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        list_recordings(tmp_path / "absent")
    with pytest.raises(SourceError, match="trials_to_train.txt: cannot be read"):
        list_recordings(tmp_path)
    folder = gesture_folder(tmp_path, "class,startTime_usec,endTime_usec\n3,600,700\n")
    with pytest.raises(SourceError, match="no events between 600 and 700 us"):
        list(read_gestures(folder))
    (folder / "user24_led.aedat").unlink()
    with pytest.raises(SourceError, match="trials_to_test.txt lists 'user24_led.aedat'"):
        list_recordings(folder)
    (folder / "trials_to_test.txt").write_text("../secret.aedat\n")
    with pytest.raises(SourceError, match="which is not there"):
        list_recordings(folder)


def digit_bytes(events) -> bytes:
    """``events``: (x, y, polarity, t_us)."""
    return b"".join(struct.pack(">BBI", x, y, polarity << 23 | t)[:2] + struct.pack(">I", polarity << 23 | t)[1:]
                    for x, y, polarity, t in events)  # fmt: skip


def test_digits_are_read_from_the_folder_of_the_data_set(tmp_path):
    for split, digit in (("Train", 7), ("Test", 3)):
        (tmp_path / split / str(digit)).mkdir(parents=True)
        data = digit_bytes([(1, 2, 1, 10), (33, 0, 0, 300_000)])
        (tmp_path / split / str(digit) / "00001.bin").write_bytes(data)
    train, test = read_nmnist(tmp_path)
    assert (train.label, train.is_test, test.label, test.is_test) == (7, False, 3, True)
    assert train.events.x.tolist() == [1, 33]
    assert train.events.t_us.tolist() == [10, 300_000]
    assert train.events.polarity.tolist() == [True, False]


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "0 bytes are no whole number"), (b"123456", "6 bytes"), (digit_bytes([(34, 0, 1, 5)]), "34x34 sensor"),
     (digit_bytes([(1, 0, 1, 5), (1, 0, 1, 4)]), "time order")],
)  # fmt: skip
def test_malformed_digits_are_refused_by_name(tmp_path, data, what):
    path = tmp_path / "00001.bin"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"00001.bin: .*{what}"):
        read_bin(path)


def packed(path: Path, **changed) -> Path:
    arrays = {
        "xyp": np.array([[1, 2, 1], [3, 4, 0], [5, 6, 1]], np.uint8),
        "dt": np.array([5, 10, -14], np.int32),
        "offsets": np.array([0, 2, 3]),
        "label": np.array([4, 9], np.uint8),
        "is_test": np.array([False, True]),
    }
    np.savez(path, **{**arrays, **changed})
    return path


def test_a_packed_subset_is_read(tmp_path):
    first, second = read_nmnist(packed(tmp_path / "digits.npz"))
    assert (first.label, second.label, second.is_test) == (4, 9, True)
    assert first.events.t_us.tolist() == [5, 15]
    assert second.events.t_us.tolist() == [1]


@pytest.mark.parametrize(
    "changed",
    [{"offsets": np.array([0, 2, 4])}, {"label": np.array([4, 10], np.uint8)}, {"dt": np.array([5], np.int32)},
     {"offsets": np.array([0, 3, 3])}, {"xyp": np.full((3, 3), 40, np.uint8)}],
)  # fmt: skip
def test_a_packed_subset_that_contradicts_itself_is_refused(tmp_path, changed):
    path = packed(tmp_path / "digits.npz", **changed)
    with pytest.raises(SourceError, match=r"digits.npz: "):
        list(read_nmnist(path))


def test_another_file_in_place_of_a_packed_subset_is_refused(tmp_path):
    path = tmp_path / "digits.npz"
    path.write_bytes(b"no zip file")
    with pytest.raises(SourceError, match="digits.npz: no packed N-MNIST"):
        list(read_nmnist(path))
    with pytest.raises(SourceError, match="no Train/0"):
        list(read_nmnist(tmp_path))
