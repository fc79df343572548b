# SPDX-License-Identifier: Apache-2.0
"""``train-events`` from a data set's folder to a model that ``classify-events`` runs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import bench.gesture_rows  # noqa: E402
from bench.gesture_rows import DIGITS, DVS128, benchmark_rows  # noqa: E402
from edge_vlm.cli import main as on_board  # noqa: E402
from edge_vlm.sources.dvs_gesture import GESTURES, read_gestures  # noqa: E402
from offline_compress.cli import main  # noqa: E402

HEADER = b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
CLIP_US = 400_000


def write_recording(path: Path, labels: list[int], seed: int) -> None:
    """An AEDAT 3.1 recording in which each class is a blob of events at a place of its own."""
    random = np.random.default_rng(seed)
    words = []
    for index, label in enumerate(labels):
        t_us = index * CLIP_US + np.sort(random.integers(0, CLIP_US, 1500))
        x, y = np.clip(random.normal(11 * label + 8, 5, (2, 1500)), 0, 127).astype(int)
        data = 1 | random.integers(0, 2, 1500) << 1 | y << 2 | x << 17
        words += list(zip(data.tolist(), t_us.tolist(), strict=True))
    head = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(words), len(words), len(words))
    path.write_bytes(HEADER + head + b"".join(struct.pack("<Ii", *word) for word in words))
    rows = [f"{label + 1},{index * CLIP_US},{(index + 1) * CLIP_US}" for index, label in enumerate(labels)]
    path.with_name(f"{path.stem}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]))


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dvs128")
    for name, split in (("user01", "train"), ("user24", "test")):
        write_recording(folder / f"{name}.aedat", [0, 4, 10], len(split))
        (folder / f"trials_to_{split}.txt").write_text(f"{name}.aedat\n")
    return folder


@pytest.fixture(scope="module")
def trained(data_set, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "events-dvs128"
    options = ["--steps", "2", "--batch", "2", "--threads", "1"]
    assert main(["train-events", "dvs128", "--data", str(data_set), "--out", str(out), *options]) == 0
    return out


def test_training_leaves_a_model_its_metrics_and_a_picture(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["dense"]["clips"] == metrics["sparse"]["clips"] == 3
    assert metrics["dense"]["tokens_per_step"] == 196
    assert metrics["sparse"]["tokens_per_step"] < 60
    assert (trained / "confusion.png").stat().st_size > 1000


def test_the_model_classifies_a_recording_gesture_by_gesture(trained, data_set, capsys):
    assert on_board(["classify-events", str(data_set / "user24.aedat"), "--model", str(trained / "model")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("user24.aedat gesture 1: ")
    assert "right)" in lines[1] or f"wrong: {GESTURES[4]})" in lines[1]


def test_a_finished_training_is_exported_again_with_other_weights(trained, data_set, capsys):
    float_bytes = (trained / "model" / "events.tflite").stat().st_size
    options = ["--steps", "2", "--batch", "2", "--method", "int8"]
    assert main(["train-events", "dvs128", "--data", str(data_set), "--out", str(trained), *options]) == 0
    assert "going on after step 2" in capsys.readouterr().out
    assert (trained / "model" / "events.tflite").stat().st_size < 0.45 * float_bytes
    assert json.loads((trained / "metrics.json").read_text())["sparse"]["clips"] == 3


def test_the_rows_say_what_was_measured(trained, data_set):
    clips = [clip for clip in read_gestures(data_set) if clip.is_test]
    rows = {row.name: row for row in benchmark_rows(DVS128, trained.parent, clips)}
    assert rows["events, DVS128 Gesture: tokens of a step"].holds
    lost = rows["events, DVS128 Gesture: points lost"]
    dense, sparse = (rows[f"events, DVS128 Gesture: {name}"] for name in ("dense accuracy", "accuracy with reuse"))
    assert lost.value == pytest.approx(100 * (dense.value - sparse.value))


def test_rows_without_a_model_or_a_data_set_say_what_is_missing(tmp_path, monkeypatch):
    (row,) = benchmark_rows(DIGITS, tmp_path, iter(()))
    assert row.holds is False
    assert "make events" in row.note
    monkeypatch.setattr(bench.gesture_rows, "benchmark_rows", lambda *_: [])
    (row,) = bench.gesture_rows.gesture_rows(tmp_path, tmp_path / "absent.npz")
    assert row.holds is False
    assert "absent.npz" in row.note


def test_a_data_set_that_is_not_named_is_asked_for(tmp_path, capsys):
    assert main(["train-events", "nmnist", "--out", str(tmp_path / "out")]) == 1
    assert "--data PATH" in capsys.readouterr().err
