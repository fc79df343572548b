# SPDX-License-Identifier: Apache-2.0
"""A user's images and recordings become captioned images."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import cv2  # noqa: E402

from edge_vlm.errors import OutputError, SourceError  # noqa: E402
from edge_vlm.sources.bag_writer import BagWriter  # noqa: E402
from offline_compress.commands import gather  # noqa: E402
from offline_compress.pairs.opening import open_pairs  # noqa: E402


def picture(shade):
    return np.full((24, 32, 3), shade, np.uint8)


@pytest.fixture
def captioner(monkeypatch):
    asked = []

    def say(model, tokenizer, prompt, images, batch, normalise):
        asked.extend(images)
        return [f"a picture of {image[0, 0, 0]}" for image in images]

    monkeypatch.setattr(gather, "model_stamp", lambda folder: {"weights": [1, 2]})
    image = SimpleNamespace(square=lambda image: image, normalised=None)
    vlm = SimpleNamespace(model=None, tokenizer=None, prompt=None, image=image)
    monkeypatch.setattr(gather, "load_vlm", lambda folder: vlm)
    monkeypatch.setattr(gather, "greedy_captions", say)
    return asked


def run(*words):
    parser = argparse.ArgumentParser()
    gather.add_arguments(parser)
    return gather.run(parser.parse_args([str(word) for word in words]))


def test_images_keep_their_captions_and_the_others_get_the_models(tmp_path, captioner, capsys):
    source = tmp_path / "mine"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), picture(40))
    cv2.imwrite(str(source / "b.png"), picture(90))
    (source / "a.txt").write_text("my cup\n")
    (source / "b.txt").write_text(" \n")
    (source / "broken.jpg").write_bytes(b"no image")
    assert run("model", source, "--out", tmp_path / "out") == 0
    assert "2 of 3 images, 1 that cannot be decoded left out" in capsys.readouterr().out
    pairs = open_pairs(tmp_path / "out")
    assert pairs.captions == (("my cup",), ("a picture of 90",)) and len(captioner) == 1
    assert abs(int(pairs.image(1)[0, 0, 0]) - 90) < 4


def test_captions_of_an_interrupted_run_are_taken_over(tmp_path, captioner, monkeypatch):
    source = tmp_path / "mine"
    source.mkdir()
    for number in range(20):
        cv2.imwrite(str(source / f"{number:02d}.png"), picture(10 * number))
    say = gather.greedy_captions

    def say_until(shade, *words, **options):
        if words[3][0][0, 0, 0] == shade:
            raise KeyboardInterrupt
        return say(*words, **options)

    monkeypatch.setattr(gather, "greedy_captions", lambda *words, **options: say_until(80, *words, **options))
    with pytest.raises(KeyboardInterrupt):
        run("model", source, "--out", tmp_path / "out")
    assert len(captioner) == 8 and not (tmp_path / "out").exists()
    monkeypatch.setattr(gather, "greedy_captions", say)
    assert run("model", source, "--out", tmp_path / "out") == 0
    assert len(captioner) == 20, "none is captioned twice"
    captions = [texts[0] for texts in open_pairs(tmp_path / "out").captions]
    assert captions == [f"a picture of {10 * number}" for number in range(20)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]
    run("model", source, "--out", tmp_path / "out", "--resume", "never")
    assert len(captioner) == 40


def test_somebody_elses_folder_is_not_replaced(tmp_path, captioner):
    source = tmp_path / "mine"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), picture(40))
    for out in (source, source / "a.png"):
        with pytest.raises(OutputError, match="is not a folder that gather made"):
            run("model", source, "--out", out)
    assert [path.name for path in source.iterdir()] == ["a.png"] and not captioner
    kept = tmp_path / "out.gather.work" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(OutputError, match="no interrupted job's"):
        run("model", source, "--out", tmp_path / "out")
    assert kept.read_text() == "mine"


def test_every_nth_image_of_a_recording_is_taken(tmp_path, captioner):
    bag = tmp_path / "drive.mcap"
    with BagWriter(bag) as writer:
        for number in range(10):
            writer.add_image(
                "/camera/image_raw/compressed", 10**9 * (number + 1), picture(20 * number), jpeg_quality=90
            )
    assert run("model", bag, "--out", tmp_path / "out", "--every", 3, "--most", 3) == 0
    assert len(open_pairs(tmp_path / "out")) == 3 == len(captioner)
    held = gather.frames_of(bag, every=1, most=2)
    assert [int(gather.decoded(jpeg)[0, 0, 0]) for jpeg in held] == pytest.approx([0, 80, 160], abs=4), "of ten images"


def test_sources_without_images_are_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(SourceError, match="no image that can be used"):
        run("model", tmp_path / "mine", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
