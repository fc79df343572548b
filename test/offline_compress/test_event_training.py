# SPDX-License-Identifier: Apache-2.0
"""The event classifier off board: its frames, batches and training, and that what is exported is what was trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_event_model import CLASSES, SHAPE, SURFACE, moving_edge

from edge_vlm.errors import InputError
from edge_vlm.events.classifier import EventClassifier
from edge_vlm.events.model import EventModel
from edge_vlm.events.surface import EventSurface
from edge_vlm.sources.event_clip import EventClip
from offline_compress.evaluate.event_accuracy import event_accuracy
from offline_compress.export.errors import ExportError
from offline_compress.export.event_model_writer import EventModelDescription, event_weights, export_event_model
from offline_compress.train.event_frames import FrameRule, cached_frames, draw_frames

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from offline_compress.models.event_vit import build_event_vit  # noqa: E402
from offline_compress.train.event_batches import Augmentation, EventBatches  # noqa: E402
from offline_compress.train.event_training import EventTrainer, EventTrainingConfig  # noqa: E402

RULE = FrameRule(SURFACE, window_ms=10.0, frames=4, first_ms=20.0)
PLAIN = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
VARIED = Augmentation(0.2, 0.2, 0.1, 0.1, 0.05, 0.2, 0.5, 0.5, mirrored=(1, 0, 2), swap_polarity=True)


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
    batches = EventBatches(frames(tmp_path), SURFACE, VARIED, size=8, seed=3)
    for left, right in zip(batches.batch(5), batches.batch(5), strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(batches.batch(5)[0], batches.batch(6)[0])


def test_without_augmentation_the_frames_come_out_as_they_are(tmp_path):
    data = frames(tmp_path)
    patches, labels, kept = EventBatches(data, SURFACE, PLAIN, size=16).batch(0)
    originals = torch.from_numpy(data.frames).float().flatten(0, 1) / 255
    distance = (patches[:, None] - originals[None]).abs().amax((2, 3))
    assert distance.min(1).values.max() < 1e-4
    assert torch.equal(torch.from_numpy(data.labels)[distance.argmin(1) // 4], labels)
    assert torch.equal(kept.sort(1).values, torch.arange(SURFACE.tokens).expand(16, -1))


def test_a_mirrored_picture_has_the_mirrored_class(tmp_path):
    data = frames(tmp_path)
    batches = EventBatches(data, SURFACE, replace(PLAIN, mirrored=(1, 0, -1)), size=32)
    patches, labels, _ = batches.batch(0)
    pictures = batches.pictures(patches[:, None].expand(-1, 2, -1, -1))[:, :3]
    both = torch.from_numpy(data.frames).float().flatten(0, 1)[:, None].expand(-1, 2, -1, -1) / 255
    originals = batches.pictures(both)[:, :3]
    flipped = 0
    for picture, label in zip(pictures, labels, strict=True):
        plain, turned = ((picture - which).abs().amax((1, 2, 3)) for which in (originals, originals.flip(-1)))
        true = int(data.labels[int((plain if plain.min() <= turned.min() else turned).argmin()) // 4])
        mirrored = bool(turned.min() < plain.min())
        assert int(label) == ((1, 0, -1)[true] if mirrored else true)
        flipped += mirrored
    assert 0 < flipped < 32


def trainer(tmp_path, steps: int = 4) -> EventTrainer:
    batches = EventBatches(frames(tmp_path), SURFACE, VARIED, size=8)
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


def test_the_exported_graph_computes_what_the_model_does(tmp_path):
    model = build_event_vit(SHAPE, CLASSES, seed=1).eval()
    torch.nn.init.normal_(model.vision.embeddings.position_embedding.weight)
    classifier = EventClassifier(EventModel.load(export(model, tmp_path / "model")), reuse=False)
    surface = EventSurface(SURFACE)
    events = moving_edge()
    surface.add(events)
    with torch.no_grad():
        expected = model(torch.from_numpy(surface.patches())[None])[0].numpy()
    step = classifier.step(events, 100_000)
    np.testing.assert_allclose(step.logits, expected, rtol=1e-3, atol=1e-4)


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
    with pytest.raises(ExportError, match="is no event model"):
        export(build_event_vit(SHAPE, CLASSES).eval(), tmp_path / "work")
    with pytest.raises(ExportError, match="no tensor .*q_proj.weight"):
        event_weights({f"{name}": value for name, value in build_event_vit(SHAPE, CLASSES).tensors().items()
                       if "q_proj" not in name}, SHAPE.layers)  # fmt: skip
