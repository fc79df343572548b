# SPDX-License-Identifier: Apache-2.0
"""Event frames and the event classifier: what is drawn, what is recomputed, and that reuse gives what dense gives."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from tiny_event_model import CLASSES, SENSOR, SURFACE, moving_edge, write_event_model

from edge_vlm.cli import main
from edge_vlm.errors import BundleError, InputError
from edge_vlm.events.classifier import EventClassifier, Evidence
from edge_vlm.events.model import EventModel
from edge_vlm.events.surface import EventSurface, SurfaceConfig, pixel_table
from edge_vlm.observation import Events
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_clip import clip_between
from edge_vlm.sttf import SttfConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> EventModel:
    return EventModel.load(write_event_model(tmp_path_factory.mktemp("events") / "model"))


def events_at(*where, width=SENSOR[0], height=SENSOR[1]) -> Events:
    """``where``: (x, y, t_us, polarity)."""
    x, y, t_us, polarity = (np.array(column) for column in zip(*where, strict=True))
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us.astype(np.int64), polarity.astype(bool), width, height)


def test_patches_divide_the_sensor_as_the_event_counts_do():
    width, height = SENSOR
    table = pixel_table(width, height, SURFACE) // SURFACE.patch_size**2
    for x, y in ((0, 0), (16, 12), (5, 9), (8, 3)):
        counter = EventAccumulator((SURFACE.grid, SURFACE.grid))
        counter.add(events_at((x, y, 0, 1)))
        assert table[y * width + x] == np.flatnonzero(counter.take().counts.reshape(-1))[0]


def test_a_drawing_does_not_depend_on_how_the_stream_is_cut_nor_on_its_speed():
    events = moving_edge()
    whole, parts, slow = (EventSurface(SURFACE) for _ in range(3))
    whole.add(events)
    for begin_us in range(0, 100_000, 7_000):
        parts.add(clip_between(events, begin_us, begin_us + 7_000))
    slow.add(replace(events, t_us=events.t_us * 10))
    np.testing.assert_allclose(parts.patches(), whole.patches(), atol=1e-5)
    np.testing.assert_array_equal(slow.patches(), whole.patches())
    assert whole.patches().min() >= 0
    assert whole.patches().max() <= 1
    np.testing.assert_array_equal(whole.patches(np.array([2, 7])), whole.patches()[[2, 7]])


def test_events_fade_what_their_patch_held_and_nothing_else():
    surface = EventSurface(SurfaceConfig(grid=2, patch_size=2, decay_events_per_pixel=1.0))
    surface.add(events_at((0, 0, 0, 1), (3, 3, 1, 0), width=4, height=4))
    before = surface.patches().reshape(4, 3, 2, 2)
    assert before[0, 0, 0, 0] == pytest.approx(1 - np.exp(-1))  # one event of rising light
    assert before[3, 1, 1, 1] == pytest.approx(1 - np.exp(-1))  # one of falling light
    assert before[0, 2, 0, 0] == before[3, 2, 1, 1] == 1.0  # the latest of their patches
    assert np.count_nonzero(before) == 4
    surface.add(events_at(*[(1, 1, 2 + k, 1) for k in range(4)], width=4, height=4))
    after = surface.patches().reshape(4, 3, 2, 2)
    np.testing.assert_array_equal(after[1:], before[1:])
    assert after[0, 2, 0, 0] == pytest.approx(np.exp(-1))  # as many events as the patch has pixels
    assert after[0, 2, 1, 1] == 1.0
    surface.reset()
    assert not surface.patches().any()


def test_a_sensor_that_does_not_fit_is_refused():
    surface = EventSurface(SURFACE)
    with pytest.raises(InputError, match="11x13 pixels.*12x12"):
        surface.add(events_at((0, 0, 0, 1), width=11))
    surface.add(events_at((0, 0, 0, 1)))
    with pytest.raises(InputError, match="20x13 sensor after those of a 17x13"):
        surface.add(events_at((0, 0, 0, 1), width=20))


def test_with_every_threshold_at_zero_reuse_equals_dense_bit_for_bit(model):
    everything = SttfConfig(threshold_on=0.0, threshold_off=0.0, keyframe_fraction=0.5)
    dense = list(EventClassifier(model, reuse=False).run(moving_edge()))
    sparse = list(EventClassifier(model, sttf=everything).run(moving_edge()))
    assert len(dense) == len(sparse) == 10
    for left, right in zip(dense, sparse, strict=True):
        assert left.tokens_computed == right.tokens_computed == SURFACE.tokens
        np.testing.assert_array_equal(left.logits, right.logits)
        np.testing.assert_array_equal(left.probabilities, right.probabilities)


def test_only_patches_with_events_are_computed_and_the_budget_holds(model):
    steps = list(EventClassifier(model).run(moving_edge()))
    assert steps[0].tokens_computed == SURFACE.tokens
    assert steps[0].reason == "first frame"
    assert all(step.tokens_computed < SURFACE.tokens for step in steps[1:])
    assert not any(step.active[2:].any() for step in steps[1:])  # the edge is in the upper half
    tight = SttfConfig.from_json({**model.sttf, "budget_tokens": 2})
    assert max(step.tokens_computed for step in list(EventClassifier(model, sttf=tight).run(moving_edge()))[1:]) <= 2


def test_a_step_without_events_costs_nothing_and_keeps_the_class(model):
    classifier = EventClassifier(model)
    first = classifier.step(moving_edge(duration_ms=10), 10_000)
    quiet = classifier.step(clip_between(moving_edge(), 0, 0), 20_000)
    assert quiet.tokens_computed == quiet.encoder_macs == 0
    assert quiet.label == first.label
    np.testing.assert_array_equal(quiet.logits, first.logits)
    with pytest.raises(InputError, match="20000 us after one at 20000 us"):
        classifier.step(clip_between(moving_edge(), 0, 0), 20_000)


def test_a_recording_is_classified_alike_after_another_one(model):
    classifier = EventClassifier(model)
    first = list(classifier.run(moving_edge(1)))[-1]
    list(classifier.run(moving_edge(2)))
    again = list(classifier.run(moving_edge(1)))[-1]
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert first.label in CLASSES
    assert first.probabilities.sum() == pytest.approx(1.0)


def test_numpy_and_the_operators_agree(model, operators_or_skip):
    fast = list(EventClassifier(model, engine="litert").run(moving_edge()))
    slow = list(EventClassifier(model, engine="numpy").run(moving_edge()))
    for left, right in zip(fast, slow, strict=True):
        np.testing.assert_allclose(left.logits, right.logits, rtol=1e-4, atol=1e-4)


@pytest.fixture
def operators_or_skip():
    from edge_vlm.runtime.interpreter import why_not_litert

    if why_not_litert():
        pytest.skip(why_not_litert())


def test_recordings_that_make_no_sense_are_refused(model):
    classifier = EventClassifier(model)
    with pytest.raises(InputError, match="without events"):
        list(classifier.run(clip_between(moving_edge(), 0, 0)))
    with pytest.raises(InputError, match="run backward"):
        list(classifier.run(events_at((0, 0, 5, 1), (0, 0, 4, 1))))


def test_evidence_fades_and_is_a_distribution():
    evidence = Evidence(classes=2, memory_s=0.1)
    for _ in range(20):
        early = evidence.add(np.array([3.0, 0.0]), 0.05)
    assert early[0] > 0.9
    for _ in range(20):
        late = evidence.add(np.array([0.0, 3.0]), 0.05)
    assert late[1] > 0.9
    assert late.sum() == pytest.approx(1.0)


def damage(folder, **changed) -> None:
    path = folder / "event_model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"format": "something"}, "'something' version 1 is no event model"),
        ({"version": 9}, "version 9"),
        ({"classes": ["one"]}, "classes are no list"),
        ({"files": {}}, "lists no events.tflite"),
        ({"window_ms": 0.0}, "window_ms does not fit"),
        ({"memory_s": "long"}, "memory_s is 'long'"),
        ({"surface": {"grid": 5, "patch_size": 3, "decay_events_per_pixel": 2.0}}, "vision.tokens does not fit"),
    ],
)
def test_a_damaged_model_is_refused_by_name_with_a_remedy(tmp_path, changed, what):
    folder = write_event_model(tmp_path / "model")
    damage(folder, **changed)
    with pytest.raises(BundleError, match=what) as caught:
        EventModel.load(folder)
    assert "event_model.json" in caught.value.what
    assert "train-events" in caught.value.remedy


def test_a_truncated_graph_and_a_missing_folder_are_refused(tmp_path):
    folder = write_event_model(tmp_path / "model")
    graph = folder / "events.tflite"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleError, match="events.tflite: truncated"):
        EventModel.load(folder)
    with pytest.raises(BundleError, match="no such folder"):
        EventModel.load(tmp_path / "absent")


def write_digit(path, events: Events) -> None:
    with open(path, "wb") as file:
        for x, y, t, p in zip(events.x, events.y, events.t_us, events.polarity, strict=True):
            file.write(bytes([x, y]) + struct.pack(">I", int(p) << 23 | int(t))[1:])


def test_the_command_prints_every_step_and_the_class(tmp_path, model, capsys):
    write_digit(tmp_path / "digit.bin", moving_edge())
    assert main(["classify-events", str(tmp_path / "digit.bin"), "--model", str(model.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[-1].startswith("digit.bin: ")
    assert main(["classify-events", str(tmp_path / "digit.bin"), "--model", str(model.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["class"] in CLASSES
    assert result["tokens"] < result["tokens_total"] == SURFACE.tokens


def test_the_command_explains_another_kind_of_file(tmp_path, model, capsys):
    assert main(["classify-events", str(tmp_path / "film.mp4"), "--model", str(model.path)]) == 1
    assert "film.mp4: no recording of events" in capsys.readouterr().err
