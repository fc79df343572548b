# SPDX-License-Identifier: Apache-2.0
"""The event classifier off board: its frames, batches and training, and that what is exported is what was trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_event_model import CLASSES, SHAPE, SURFACE, moving_edge

from edge_vlm.errors import InputError, OutputError
from edge_vlm.events.classifier import EventClassifier
from edge_vlm.events.model import EventModel
from edge_vlm.events.surface import EventSurface
from edge_vlm.sources.event_clip import EventClip, clip_between
from offline_compress.errors import ExportError
from offline_compress.evaluate.event_accuracy import event_accuracy
from offline_compress.export.event_model_writer import EventModelDescription, event_weights, export_event_model
from offline_compress.train.event_frames import EventFrames, FrameRule, cached_frames, draw_frames

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from offline_compress.models.event_vit import build_event_vit, take  # noqa: E402
from offline_compress.train.event_batches import Augmentation, EventBatches, Schedule  # noqa: E402
from offline_compress.train.event_training import EventTrainer, EventTrainingConfig  # noqa: E402
from offline_compress.train.muon import orthogonal  # noqa: E402

RULE = FrameRule(SURFACE, window_ms=10.0, frames=4, first_ms=20.0)
VARIED = Augmentation(0.2, 0.2, 0.1, 0.1, 0.05, 0.2, mirrored=(1, 0, 2), swap_polarity=True)
SCHEDULE = Schedule(steps=3, fewest=0.1, most=0.5, dense=0.3)


def clips(count: int = 6) -> list[EventClip]:
    return [EventClip(f"clip{k}", moving_edge(k), k % len(CLASSES), is_test=False) for k in range(count)]


def frames(tmp_path):
    return cached_frames(tmp_path / "frames.npz", clips, RULE, "edges", lambda done: None)


def test_frames_are_those_of_the_stream_and_are_kept(tmp_path):
    data = frames(tmp_path)
    assert data.frames.shape == (6, 4, SURFACE.tokens, 27)
    surface = EventSurface(SURFACE)
    surface.add(moving_edge(0))
    np.testing.assert_allclose(data.frames[0, -1] / 255, surface.patches(), atol=0.003)

    def none():
        raise AssertionError("drawn again")

    again = cached_frames(tmp_path / "frames.npz", none, RULE, "edges", lambda done: None)
    np.testing.assert_array_equal(again.frames, data.frames)
    with pytest.raises(AssertionError, match="drawn again"):
        cached_frames(tmp_path / "frames.npz", none, replace(RULE, frames=3), "edges", lambda done: None)
    with pytest.raises(InputError, match="nothing: no training clips"):
        cached_frames(tmp_path / "other.npz", list, RULE, "nothing", lambda done: None)


def test_a_clip_shorter_than_asked_for_repeats_its_frames():
    assert len(draw_frames(EventClip("short", moving_edge(duration_ms=15), 0, False), RULE)) == 4


def test_batches_follow_from_seed_and_step(tmp_path):
    batches = EventBatches(frames(tmp_path), SURFACE, VARIED, SCHEDULE, size=8, seed=3)
    first, again, later = batches.batch(5), batches.batch(5), batches.batch(6)
    assert torch.equal(first.patches, again.patches)
    assert torch.equal(first.labels, again.labels)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(first.active, again.active, strict=True))
    assert not torch.equal(first.patches, later.patches)


def test_without_augmentation_the_frames_come_out_as_they_are_in_order(tmp_path):
    data = frames(tmp_path)
    batch = EventBatches(data, SURFACE, Augmentation(), SCHEDULE, size=16).batch(0)
    originals = torch.from_numpy(data.frames).float().flatten(0, 1) / 255
    distance = (batch.patches[:, :, None] - originals[None, None]).abs().amax((3, 4))  # (B, T, clips * frames)
    assert distance.min(2).values.max() < 1e-4
    found = distance.argmin(2)
    assert torch.equal(torch.from_numpy(data.labels)[found[:, 0] // 4], batch.labels)
    assert (found.diff(dim=1) > 0).all()
    assert (found // 4 == found[:, :1] // 4).all()


def test_the_tokens_to_compute_are_those_that_changed(tmp_path):
    batches = EventBatches(frames(tmp_path), SURFACE, Augmentation(), Schedule(3, 0.25, 0.25, 0.0), size=8)
    batch = batches.batch(0)
    for active in batch.active:
        assert active.shape == (8, SURFACE.tokens // 4)
        assert (active.diff(dim=1) > 0).all()
    drawn = take(batch.patches[:, 0], batch.active[0]).sum()
    assert drawn > 0.5 * batch.patches[:, 0].sum()  # the first of them had all been blank
    assert all(active is None for active in EventBatches(
        batches.data, SURFACE, Augmentation(), Schedule(3, 0.25, 0.25, 1.0), size=8).batch(0).active)  # fmt: skip


def test_a_mirrored_picture_has_the_mirrored_class(tmp_path):
    data = frames(tmp_path)
    batches = EventBatches(data, SURFACE, Augmentation(mirrored=(1, 0, -1)), Schedule(1, 1.0, 1.0, 0.0), size=32)
    batch = batches.batch(0)
    pictures = batches.pictures(batch.patches)
    originals = batches.pictures(torch.from_numpy(data.frames).float().flatten(0, 1)[:, None] / 255)
    flipped = 0
    for picture, label in zip(pictures, batch.labels, strict=True):
        plain, turned = ((picture - which).abs().amax((1, 2, 3)) for which in (originals, originals.flip(-1)))
        true = int(data.labels[int((plain if plain.min() <= turned.min() else turned).argmin()) // 4])
        mirrored = bool(turned.min() < plain.min())
        assert int(label) == ((1, 0, -1)[true] if mirrored else true)
        flipped += mirrored
    assert 0 < flipped < 32


def test_a_mirrored_movement_goes_the_other_way_and_polarity_says_nothing_of_it():
    moving = replace(SURFACE, motion_memory_ms=100.0)
    frames = np.zeros((1, 1, moving.tokens, moving.channels, SURFACE.patch_size**2), np.uint8)
    frames[..., 0, :], frames[..., 3, :] = 100, 200  # rising light that moves to the right
    data = EventFrames(frames.reshape(1, 1, moving.tokens, -1), np.array([0]))
    varied = Augmentation(mirrored=(1, 0, 2), swap_polarity=True)
    batch = EventBatches(data, moving, varied, Schedule(1, 1.0, 1.0, 0.0), size=64).batch(0)
    means = batch.patches.unflatten(3, (moving.channels, -1)).mean((1, 2, 4)) * 255  # (B, channels)
    seen = {(int(label), *row) for label, row in zip(batch.labels, means.round().int().tolist(), strict=True)}
    right, left = (200, 0, 0, 0), (0, 200, 0, 0)
    assert seen == {
        (label, *light, 0, *motion) for label, motion in ((0, right), (1, left)) for light in ((100, 0), (0, 100))
    }


def trainer(tmp_path, steps: int = 4) -> EventTrainer:
    batches = EventBatches(frames(tmp_path), SURFACE, VARIED, SCHEDULE, size=8)
    config = EventTrainingConfig(steps=steps, batch=8, warmup_steps=2, checkpoint_every=2)
    return EventTrainer(build_event_vit(SHAPE, CLASSES), batches, config)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, states = trainer(tmp_path), []
    expected = whole.run(lambda p: None, lambda state: states.append(torch_copy(state))).tensors()
    resumed = trainer(tmp_path)
    resumed.restore(states[0], "checkpoint")
    assert resumed.step == 2
    for name, value in resumed.run(lambda p: None, lambda state: None).tensors().items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)
    with pytest.raises(InputError, match="made with other training options"):
        trainer(tmp_path, steps=5).restore(states[0], "checkpoint")


def torch_copy(state: dict) -> dict:
    import copy

    return copy.deepcopy(state)


def export(model, folder):
    description = EventModelDescription("tiny", "original", CLASSES, SURFACE, window_ms=10.0, memory_s=0.1, sttf=None)
    return export_event_model(event_weights(model.tensors(), SHAPE.layers), SHAPE, description, folder)


def test_the_exported_graph_computes_what_the_model_does_dense_and_sparse(tmp_path):
    model = build_event_vit(SHAPE, CLASSES, seed=1).eval()
    classifier = EventClassifier(EventModel.load(export(model, tmp_path / "model")))
    surface, caches = EventSurface(SURFACE), None
    for end_us in range(10_000, 60_000, 10_000):
        events = clip_between(moving_edge(), end_us - 10_000, end_us)
        surface.add(events)
        step = classifier.step(events, end_us)
        active = np.flatnonzero(step.active)
        assert (len(active) == SURFACE.tokens) == (caches is None)
        index = None if caches is None else torch.from_numpy(active)[None]
        with torch.no_grad():
            logits, caches = model(torch.from_numpy(surface.patches(active))[None], index, caches)
        np.testing.assert_allclose(step.logits, logits[0].numpy(), rtol=1e-3, atol=1e-4)


def test_a_step_that_computes_all_tokens_forgets_the_ones_before():
    model = build_event_vit(SHAPE, CLASSES).eval()
    patches = torch.rand(2, SURFACE.tokens, SHAPE.patch_values)
    with torch.no_grad():
        expected, _ = model(patches)
        everything = torch.arange(SURFACE.tokens).expand(2, -1)
        logits, _ = model(patches, everything, model.blank(2))
    torch.testing.assert_close(logits, expected)


def test_muon_makes_updates_orthogonal():
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(orthogonal(matrix.T), orthogonal(matrix).T)


def test_accuracy_counts_clips_tokens_and_confusions(tmp_path):
    folder = export(build_event_vit(SHAPE, CLASSES).eval(), tmp_path / "model")
    classifier = EventClassifier(EventModel.load(folder))
    result = event_accuracy(classifier, clips(6))
    assert result.confusion.sum() == 6
    assert result.accuracy == np.trace(result.confusion) / 6
    assert 0 < result.tokens_share < 1
    assert result.to_json()["clips"] == 6


def test_a_folder_that_is_no_event_model_is_not_replaced(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not an event model"):
        export(build_event_vit(SHAPE, CLASSES).eval(), tmp_path / "work")
    with pytest.raises(ExportError, match="no tensor .*q_proj.weight"):
        event_weights({f"{name}": value for name, value in build_event_vit(SHAPE, CLASSES).tensors().items()
                       if "q_proj" not in name}, SHAPE.layers)  # fmt: skip
