# SPDX-License-Identifier: Apache-2.0
"""The loop over a source and what it leaves behind, with a pipeline that needs no model."""

import json
import os
import signal

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edge_vlm.errors import BundleError, InputError, OutputError, SourceError
from edge_vlm.replay import line_file
from edge_vlm.replay.output_folder import OutputFolder
from edge_vlm.replay.picture import WIDTH, chosen_places, draw
from edge_vlm.replay.read_results import read_results
from edge_vlm.replay.record import MEASURED, mask_from_hex, mask_to_hex
from edge_vlm.replay.runner import run
from edge_vlm.sources.observations import open_bag

SECOND = 1_000_000_000
STAMPS = [SECOND * n for n in range(1, 8)]


class SilentDisplay:
    """Keeps what it was given."""

    def __init__(self):
        self.notes, self.frames, self.rows = [], 0, None

    def begin(self, source):
        pass

    def note(self, line):
        self.notes.append(line)

    def frame(self, report, record):
        self.frames += 1

    def end(self, rows, summary):
        self.rows = dict(rows)


@pytest.fixture
def bag(tmp_path, messages):
    return messages.write(tmp_path / "bag", [("/image", stamp, messages.image(stamp)) for stamp in STAMPS])


def replay(bag, pipeline, out=None, max_frames=None):
    source, display = open_bag(bag), SilentDisplay()
    result = run(source, pipeline, display, OutputFolder(out) if out else None, max_frames)
    source.close()
    return result, display


def lines(out):
    return [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]


def test_every_image_gets_one_line_with_its_own_stamp(bag, tmp_path, fake_pipeline):
    result, display = replay(bag, fake_pipeline(), tmp_path / "out")
    records = lines(tmp_path / "out")
    assert [record["stamp_ns"] for record in records] == STAMPS
    assert [record["frame"] for record in records] == list(range(7))
    assert records[3]["caption"] == f"mean grey {STAMPS[3] % 251}"
    assert mask_from_hex(records[3]["active"], tuple(records[3]["grid"])).sum() == records[3]["tokens_computed"] == 42
    assert display.frames == result.summary.frames == 7
    assert result.error is None
    assert not result.interrupted


def test_the_summary_counts_and_says_why_there_is_no_energy(bag, tmp_path, fake_pipeline):
    _, display = replay(bag, fake_pipeline(), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == summary["input"]["images"] == 7
    assert summary["branches"] == {"full": 1, "sparse": 6}
    assert summary["captions"] == 3
    assert summary["tokens_reused_share"] == pytest.approx(1 - 14 * sum(range(7)) / (7 * 196), abs=1e-6)
    assert summary[MEASURED]["joules"] is None
    assert summary[MEASURED]["peak_rss_mb"] > 10
    assert summary[MEASURED]["latency_ms"]["p50_ms"] == 6.0
    assert "no sensor in tests" in display.rows["energy"]
    assert display.rows["frames"] == "7 captioned of 7 images"


def test_a_picture_of_a_former_run_does_not_stay(bag, tmp_path, fake_pipeline):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "timeline.png").write_bytes(b"a picture")
    replay(bag, fake_pipeline(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "captions.jsonl", "captions.mcap", "summary.json",
    ]  # fmt: skip


def test_two_replays_are_equal_but_for_what_was_measured(bag, tmp_path, fake_pipeline):
    for name in ("a", "b"):
        replay(bag, fake_pipeline(), tmp_path / name)
    first, second = (lines(tmp_path / name) for name in ("a", "b"))
    for record in first + second:
        record.pop(MEASURED)
    assert first == second
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("a", "b")]
    assert [s.pop(MEASURED) for s in summaries]
    assert summaries[0] == summaries[1]


def test_the_recording_opens_with_other_tools(bag, tmp_path, fake_pipeline):
    replay(bag, fake_pipeline(), tmp_path / "out")
    path = tmp_path / "out" / "captions.mcap"
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    counts = {c.topic: summary.statistics.channel_message_counts[n] for n, c in summary.channels.items()}
    assert counts == {"/edge_vlm/image": 7, "/edge_vlm/annotations": 7, "/edge_vlm/step": 7, "/edge_vlm/caption": 3}
    with Reader(path) as reader:  # with the definitions from inside the file, as Foxglove does
        store = get_typestore(Stores.EMPTY)
        for connection in reader.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        seen = [(c.topic, t, store.deserialize_cdr(data, c.msgtype)) for c, t, data in reader.messages()]
    steps = [message for topic, _, message in seen if topic == "/edge_vlm/step"]
    assert [step.tokens_computed for step in steps] == [14 * n for n in range(7)]
    assert all(np.isnan(step.energy_j) for step in steps)
    assert steps[2].header.stamp.sec == 3
    notes = [message for topic, _, message in seen if topic == "/edge_vlm/annotations"]
    assert len(notes[2].points[0].points) == 28
    assert notes[2].texts[0].text == f"mean grey {STAMPS[2] % 251}"
    picture = next(message for topic, _, message in seen if topic == "/edge_vlm/image")
    assert cv2.imdecode(picture.data, cv2.IMREAD_COLOR).shape == (12, 16, 3)
    source = open_bag(path)  # and our own reader captions it again
    assert [o.stamp_ns for o in source] == STAMPS
    source.close()


def test_frames_that_the_pipeline_refuses_are_counted_and_the_run_goes_on(bag, tmp_path, fake_pipeline):
    pipeline = fake_pipeline(fail={2: InputError("image too dark: 0", "switch on the light")})
    result, display = replay(bag, pipeline, tmp_path / "out")
    assert result.error is None
    assert result.summary.frames == 6
    assert dict(result.summary.step_drops) == {"image too dark": 1}
    assert any("image too dark: 0" in note for note in display.notes)
    assert "1 (image too dark)" in display.rows["dropped"]


def check_whole(out, frames):
    """Complete lines, a recording with its footer, a summary; nothing else."""
    assert sorted(path.name for path in out.iterdir()) == ["captions.jsonl", "captions.mcap", "summary.json"]
    assert [record["stamp_ns"] for record in lines(out)] == STAMPS[:frames]
    with (out / "captions.mcap").open("rb") as stream:
        summary = make_reader(stream, validate_crcs=True).get_summary()
    assert summary.statistics.message_count >= 3 * frames
    assert json.loads((out / "summary.json").read_text())["frames"] == frames


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), BundleError("vision.tflite is gone", "copy it again")])
def test_an_interrupt_or_error_keeps_everything_done_until_then(bag, tmp_path, fake_pipeline, cause):
    result, display = replay(bag, fake_pipeline(fail={4: cause}), tmp_path / "out")
    check_whole(tmp_path / "out", 4)
    assert result.interrupted == isinstance(cause, KeyboardInterrupt)
    assert result.error is (None if result.interrupted else cause)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["interrupted"]
    assert display.rows["frames"].startswith("4 captioned")


@pytest.mark.parametrize("cause", [SystemExit(1), ZeroDivisionError()])
def test_anything_else_that_ends_a_run_leaves_nothing_half_written(bag, tmp_path, fake_pipeline, cause):
    with pytest.raises(type(cause)):
        replay(bag, fake_pipeline(fail={4: cause}), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["captions.jsonl"]
    assert len(lines(tmp_path / "out")) == 4


def test_an_interrupt_while_a_frame_is_written_waits_for_it(bag, tmp_path, fake_pipeline, monkeypatch):
    real_add = OutputFolder.add

    def add(self, observation, report, record):
        if report.index == 2:
            signal.raise_signal(signal.SIGINT)
        real_add(self, observation, report, record)

    monkeypatch.setattr(OutputFolder, "add", add)
    result, _ = replay(bag, fake_pipeline(), tmp_path / "out")
    assert result.interrupted
    check_whole(tmp_path / "out", 3)


def test_a_cut_recording_keeps_its_frames_and_reports_the_cut(tmp_path, messages, fake_pipeline):
    stamps = [SECOND * n for n in range(1, 300)]
    rng = np.random.default_rng(0)
    listed = [
        ("/image", s, messages.image(s, height=32, width=64, data=rng.integers(0, 256, 6144, dtype=np.uint8)))
        for s in stamps
    ]
    folder = messages.write(tmp_path / "cut", listed, "sqlite3")
    file = next(folder.glob("*.db3"))
    os.truncate(file, file.stat().st_size // 2)
    result, _ = replay(folder, fake_pipeline(), tmp_path / "out")
    assert isinstance(result.error, SourceError)
    assert "cut or damaged" in result.error.what
    assert len(lines(tmp_path / "out")) == result.summary.frames > 100
    assert (tmp_path / "out" / "captions.mcap").exists()


def test_max_frames(bag, tmp_path, fake_pipeline):
    replay(bag, fake_pipeline(), tmp_path / "out", max_frames=3)
    check_whole(tmp_path / "out", 3)


def test_results_of_a_former_run_are_replaced(bag, tmp_path, fake_pipeline):
    replay(bag, fake_pipeline(), tmp_path / "out")
    replay(bag, fake_pipeline(), tmp_path / "out", max_frames=2)
    check_whole(tmp_path / "out", 2)


def test_a_full_disk_leaves_whole_lines_and_no_half_recording(bag, tmp_path, fake_pipeline, monkeypatch):
    written = []
    real_write = os.write

    def full_after_three_lines(file, data):
        written.append(data)
        if len(written) == 4:  # a full disk takes what still fits ...
            return real_write(file, data[: len(data) // 2])
        if len(written) > 4:
            raise OSError(28, "No space left on device")
        return real_write(file, data)

    monkeypatch.setattr(line_file.os, "write", full_after_three_lines)
    result, _ = replay(bag, fake_pipeline(), tmp_path / "out")
    assert isinstance(result.error, OutputError)
    assert "No space left on device" in result.error.what
    assert "captions.jsonl" in result.error.what
    assert [record["stamp_ns"] for record in lines(tmp_path / "out")] == STAMPS[:3]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["captions.jsonl"]


def test_a_disk_that_fills_up_at_the_very_end(bag, tmp_path, fake_pipeline, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(line_file.os, "fsync", full)
    result, _ = replay(bag, fake_pipeline(), tmp_path / "out")
    assert isinstance(result.error, OutputError)
    assert "summary.json" in result.error.what
    assert not [path for path in (tmp_path / "out").iterdir() if "partial" in path.name]
    assert len(lines(tmp_path / "out")) == 7


def test_an_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        OutputFolder(tmp_path / "file" / "out")


def test_masks_as_hexadecimal():
    rng = np.random.default_rng(0)
    for shape in ((14, 14), (1, 1), (3, 5), (8, 8)):
        mask = rng.random(shape) < 0.4
        assert np.array_equal(mask_from_hex(mask_to_hex(mask), shape), mask)


def test_the_picture_shows_frames_and_timeline(bag, tmp_path, fake_pipeline):
    replay(bag, fake_pipeline(), tmp_path / "out")
    image = draw(read_results(tmp_path / "out"))
    assert image.shape[1] == WIDTH
    assert image.shape[0] > 500
    (tmp_path / "out" / "captions.mcap").unlink()
    assert draw(read_results(tmp_path / "out")).shape[1] == WIDTH  # without frames, still a timeline


def test_places_in_the_picture_follow_new_captions():
    records = [{"caption_refreshed": number in (5, 33, 77)} for number in range(120)]
    places = chosen_places(records, 12)
    assert len(places) == 12
    assert places == sorted(places)
    assert {5, 33, 77} <= set(places)
    assert chosen_places(records[:5], 12) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("content", [None, "", "not json\n", '{"frame": 1}\n', "[1]\n"])
def test_results_that_are_not_there_or_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / "captions.jsonl").write_text(content)
    with pytest.raises(SourceError, match=str(tmp_path)):
        read_results(tmp_path)
