# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from edge_vlm.errors import SourceError
from offline_compress.models import dataset
from offline_compress.models.dataset import open_split, render_sample, render_splits
from offline_compress.models.patch_labels import ACTOR_ACTIONS, CHANNELS, IGNORED, patch_labels
from offline_compress.models.scenes import COLOURS, KINDS, captions, is_reserved, render, sample_scene


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(dataset, "SHARD", 4)


def render_here(folder, counts):
    for split, count in counts.items():
        for task in dataset.shards_of(folder, split, count):
            folder.mkdir(exist_ok=True)
            dataset.render_shard(*task)


def test_what_is_read_is_what_was_rendered(tmp_path):
    cache = tmp_path / "cache"
    render_here(cache, {"train": 6, "heldout": 2})
    scenes = open_split(cache, "train", 6)
    assert len(scenes) == 6 and scenes.labels.shape == (6, 14, 14, len(CHANNELS))
    for index in (0, 3, 5):
        image, labels, texts = render_sample("train", index)
        assert np.array_equal(scenes.image(index), image)
        assert np.array_equal(scenes.labels[index], labels)
        assert scenes.captions[index] == texts
    assert open_split(cache, "heldout", 1).captions[0] == captions(sample_scene(0, "heldout"))


def test_splits_share_no_reserved_combination():
    for index in range(20):
        assert is_reserved(sample_scene(index, "heldout"))
        assert not is_reserved(sample_scene(index, "train"))


def test_rendering_goes_on_where_it_stopped(tmp_path):
    cache = tmp_path / "cache"
    render_here(cache, {"train": 8})
    kept = (cache / "train-00000.images.npy").stat().st_mtime_ns
    (cache / "train-00001.json").unlink()  # as if interrupted in the second shard
    counted = []
    render_splits(cache, {"train": 8}, processes=1, report=lambda done, total: counted.append((done, total)))
    assert counted == [(4, 8), (8, 8)]
    assert (cache / "train-00000.images.npy").stat().st_mtime_ns == kept
    assert len(open_split(cache, "train", 8)) == 8
    assert not list(cache.glob(".*"))


def test_scenes_of_another_renderer_are_not_used(tmp_path):
    render_here(tmp_path, {"train": 4})
    path = tmp_path / "train-00000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"renderer": "other"}))
    with pytest.raises(SourceError, match="another version"):
        open_split(tmp_path, "train", 4)


@pytest.mark.parametrize("content", ["", "[]", '{"renderer": 3}', "{"])
def test_a_damaged_shard_counts_as_missing(tmp_path, content):
    (tmp_path / "train-00000.json").write_text(content)
    with pytest.raises(SourceError, match="train-00000.json.*\n.*train-demo"):
        open_split(tmp_path, "train", 4)


def test_unknown_split_is_named(tmp_path):
    with pytest.raises(SourceError, match="'test'"):
        open_split(tmp_path, "test", 4)


def test_patch_labels_name_objects_colours_and_actors():
    channels = list(CHANNELS)
    seen_actor = seen_held = False
    for seed in range(40):
        scene = sample_scene(seed, "train")
        rendering = render(scene)
        labels = patch_labels(scene, rendering)
        cover, colour = labels[..., channels.index("cover")], labels[..., channels.index("colour")]
        pairs = {(int(k) - 1, int(c)) for k, c in zip(cover.ravel(), colour.ravel(), strict=True) if c != IGNORED}
        assert pairs <= set(rendering.objects) and pairs
        assert all(k < len(KINDS) and c < len(COLOURS) for k, c in pairs)
        assert 1 <= (labels[..., channels.index("centre")] == 1).sum() <= len(rendering.objects)
        if scene.actor:
            acting = 1 + len(KINDS) + ACTOR_ACTIONS.index((scene.actor.name, scene.actor.action))
            seen_actor |= bool((cover == acting).any())
            seen_held |= scene.actor.held is not None and bool((labels[..., channels.index("order")] == 3).any())
        order = labels[..., channels.index("order")]
        if scene.relation in ("left", "row"):  # groups are numbered as they stand, left to right
            columns = [np.nonzero(order == group)[1].mean() for group in range(len(scene.groups))]
            assert columns == sorted(columns)
        for name, channel in zip(channels, np.moveaxis(labels, -1, 0), strict=True):
            assert ((channel < CHANNELS[name]) | (channel == IGNORED)).all()
    assert seen_actor and seen_held
