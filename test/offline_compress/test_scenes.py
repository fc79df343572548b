# SPDX-License-Identifier: Apache-2.0
"""The rendered scenes: what is said is what is shown, and a clip plays its script."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vlm.errors import OutputError, SourceError
from edge_vlm.sources.bag import open_recording
from edge_vlm.sources.observations import open_bag
from offline_compress.models.clip_recording import CAPTION_TOPIC, EVENT_TOPIC, IMAGE_TOPIC, SEGMENT_TOPIC, record_clip
from offline_compress.models.scenes import ACTORS, COLOURS, KINDS, captions, render, sample_scene
from offline_compress.models.scenes.clip import Clip, Segment, sample_clip
from offline_compress.models.scenes.motions import ActorPasses, CameraMoves, GroupAppears, GroupLeaves, LampDims, Still
from offline_compress.models.scenes.scene import Actor

SMALLEST_VISIBLE = 60  # pixels of 224 x 224


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(seed, "train") for seed in range(40)]


def test_a_seed_gives_the_same_bytes_and_another_seed_others():
    first, again = (render(sample_scene(7, "train")) for _ in range(2))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.object_ids, again.object_ids)
    assert not np.array_equal(first.image, render(sample_scene(8, "train")).image)
    assert first.image.shape == (224, 224, 3) and first.image.dtype == np.uint8


def test_the_vocabulary_is_wide_and_all_of_it_is_sampled():
    shown = [sample_scene(seed, "train") for seed in range(300)]
    assert len(KINDS) >= 12
    assert {kind for scene in shown for kind, _ in scene.pairs()} == set(range(len(KINDS)))
    assert {colour for scene in shown for _, colour in scene.pairs()} == set(range(len(COLOURS)))
    assert {scene.actor.name for scene in shown if scene.actor} == set(ACTORS)


def test_every_object_of_the_caption_can_be_seen(scenes):
    for scene in scenes[:12]:
        rendering = render(scene)
        assert len(rendering.objects) == sum(group.count for group in scene.groups) + bool(
            scene.actor and scene.actor.held
        )
        for number in range(1, len(rendering.objects) + 1):
            assert (rendering.object_ids == number).sum() >= SMALLEST_VISIBLE, (scene.seed, number)
        if scene.actor:
            assert rendering.actor_mask.sum() >= SMALLEST_VISIBLE


def test_five_phrasings_name_kinds_colours_and_surface(scenes):
    for scene in scenes:
        texts = captions(scene)
        assert len(set(texts)) == 5
        for kind, colour in scene.pairs():
            assert all(COLOURS[colour] in text for text in texts)
            assert all(KINDS[kind] in text or f"{KINDS[kind][:-1]}" in text for text in texts)
        assert all(scene.surface in text for text in texts)
        assert all((scene.actor.name in text) == bool(scene.actor) for text in texts if scene.actor)


def test_noise_is_that_of_the_sensor_alone():
    scene = replace(sample_scene(3, "train"), actor=None)
    one, two = (render(scene, time_s).image.astype(int) for time_s in (0.0, 0.1))
    assert not np.array_equal(one, two) and np.abs(one - two).mean() < 12
    still = replace(scene, noise_level=0.0)
    assert np.array_equal(render(still, 0.0).image, render(still, 0.1).image)


def test_an_unknown_split_is_named():
    with pytest.raises(SourceError, match="tests"):
        sample_scene(0, "tests")


def clip_of(*segments: Segment, size: tuple[int, int] = (96, 96)) -> Clip:
    return replace(sample_clip(24), segments=segments, size=size)


def test_a_script_plays_in_its_order():
    clip = sample_clip(24)
    names = [segment.name for segment in clip.segments]
    assert {"still", "person", "pan", "dolly", "dim", "leaves", "appears", "cart"} == set(names)
    assert len(clip.times) == round(clip.duration_s * clip.fps)
    assert clip.segment_at(0.0).name == "still" and clip.segment_at(2.0).name == "person"
    assert clip.segment_at(1e9).name == names[-1]
    still_s = sum(segment.duration_s for segment in clip.segments if segment.name == "still")
    assert 0.4 < still_s / clip.duration_s < 0.6


def test_captions_follow_what_happens():
    clip = sample_clip(24)
    person, nobody = captions(clip.scene_at(4.0)), captions(clip.scene_at(7.0))
    assert all("person" in text for text in person) and not any("person" in text for text in nobody)
    one_left, again = captions(clip.scene_at(17.0)), captions(clip.scene_at(19.9))
    assert not any("mushroom" in text for text in one_left) and all("mushroom" in text for text in again)


def test_still_frames_are_equal_but_for_noise():
    clip = clip_of(Segment("still", 0.3))
    quiet = [image for _, image, _ in clip.frames(noise=False)]
    noisy = [image for _, image, _ in clip.frames()]
    assert all(np.array_equal(quiet[0], image) for image in quiet)
    assert not np.array_equal(noisy[0], noisy[1])


@pytest.mark.parametrize("motion", ["person", "camera", "lamp", "leaves", "appears"])
def test_every_motion_changes_the_picture(motion):
    scene = sample_clip(24).scene
    motions = {
        "person": ActorPasses(Actor("person", "right", x=-2.0, y=8.0)),
        "camera": CameraMoves(yaw_rad=0.1),
        "lamp": LampDims(0.5),
        "leaves": GroupLeaves(),
        "appears": GroupAppears(scene.groups[-1]),
    }
    clip = clip_of(Segment("still", 0.1, Still()), Segment(motion, 0.4, motions[motion]))
    pictures = [image.astype(int) for _, image, _ in clip.frames(noise=False)]
    assert max(np.abs(after - pictures[1]).max() for after in pictures[2:]) > 20


def test_a_recorded_clip_is_the_same_each_time_and_replays(tmp_path):
    clip = clip_of(Segment("still", 0.2), Segment("person", 0.4, ActorPasses(Actor("person", "right", x=-2, y=8.0))))
    seen = []
    for name in ("a.mcap", "b.mcap"):
        assert record_clip(clip, tmp_path / name) == 6
        source = open_bag(tmp_path / name, None, None, (14, 14))
        seen.append([(o.stamp_ns, o.frame.image.tobytes(), o.events.counts.tobytes()) for o in source])
        source.close()
    assert seen[0] == seen[1] and len(seen[0]) == 6
    events = [np.frombuffer(counts, np.int32).sum() for _, _, counts in seen[0]]
    assert np.mean(events[3:]) > 4 * events[1]  # a person sets off far more than noise


def test_a_recording_holds_images_events_and_truth(tmp_path):
    record_clip(clip_of(Segment("still", 0.2), Segment("dim", 0.2, LampDims(0.7))), tmp_path / "a.mcap")
    with open_recording(tmp_path / "a.mcap") as recording:
        topics = {name: topic.message_count for name, topic in recording.topics.items()}
    assert topics[IMAGE_TOPIC] == 4 and topics[SEGMENT_TOPIC] == 2 and topics[CAPTION_TOPIC] == 1
    assert topics[EVENT_TOPIC] > 0


def test_a_recording_of_one_name_is_the_same_byte_for_byte(tmp_path):
    clip, files = clip_of(Segment("still", 0.3)), [tmp_path / folder / "sample.mcap" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        record_clip(clip, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_recording_is_not_overwritten(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        record_clip(clip_of(Segment("still", 0.1)), tmp_path / "a.mcap")
    assert (tmp_path / "a.mcap").read_bytes() == b"precious"
