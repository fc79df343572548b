# SPDX-License-Identifier: Apache-2.0
import json
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch  # noqa: E402

from edge_vlm.errors import SourceError  # noqa: E402
from offline_compress.evaluate.pair_evaluation import pair_samples  # noqa: E402
from offline_compress.models.chat_prompt import chat_prompt  # noqa: E402
from offline_compress.models.demo_model import IMAGE_TOKENS, build_demo_model, demo_config, save_folder  # noqa: E402
from offline_compress.models.token_sequences import IGNORED_LABEL  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402
from offline_compress.pairs.batches import pair_batches  # noqa: E402
from offline_compress.pairs.captioned_images import skipped_text  # noqa: E402
from offline_compress.pairs.opening import open_pairs  # noqa: E402

CAPTIONS = ["A red cube.", "A blue sphere on a table."]


def jpeg(shade: int) -> bytes:
    picture = np.full((40, 60, 3), (0, 0, shade), np.uint8)  # BGR: red
    return cv2.imencode(".jpg", picture)[1].tobytes()


def write_folder(folder, count=4):
    folder.mkdir()
    for index in range(count):
        (folder / f"{index}.jpg").write_bytes(jpeg(60 * index))
        (folder / f"{index}.txt").write_text("\n".join(CAPTIONS))
    return folder


def write_coco(folder, count=3):
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    images = [{"id": 7 + index, "file_name": f"{index}.jpg"} for index in range(count)]
    annotations = [{"image_id": 7 + index, "caption": text} for index in range(count) for text in CAPTIONS]
    content = {"images": images, "annotations": [*annotations, {"image_id": 999, "caption": "of no image"}]}
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(content))
    for index in range(count):
        (folder / "val2017" / f"{index}.jpg").write_bytes(jpeg(50))
    return folder


def write_flickr8k(folder, zipped=True):
    folder.mkdir()
    names = [f"{index}.jpg" for index in range(4)]
    lines = [f'{name},"A red cube , and more ."' for name in names] + ["3.jpg,A cube"]
    (folder / "captions.txt").write_text("image,caption\n" + "\n".join(lines))
    (folder / "Flickr_8k.trainImages.txt").write_text("0.jpg\n1.jpg\nlost.jpg\n")
    (folder / "Flickr_8k.testImages.txt").write_text("3.jpg\n")
    if zipped:
        with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
            for name in names:
                archive.writestr(f"images/{name}", jpeg(80))
    else:
        (folder / "Images").mkdir()
        for name in names:
            (folder / "Images" / name).write_bytes(jpeg(80))
    return folder


def test_a_folder_of_images_and_texts(tmp_path):
    pairs = open_pairs(write_folder(tmp_path / "pairs"))
    assert pairs.names == ("0.jpg", "1.jpg", "2.jpg", "3.jpg") and pairs.captions[0] == tuple(CAPTIONS)
    image = pairs.image(3)
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    assert image[..., 0].mean() > 150 and image[..., 1:].mean() < 20  # RGB, not BGR


@pytest.mark.parametrize("by_json", [True, False])
def test_coco(tmp_path, by_json):
    folder = write_coco(tmp_path / "coco")
    pairs = open_pairs(folder / "annotations" / "captions_val2017.json" if by_json else folder)
    assert len(pairs) == 3 and pairs.captions[2] == tuple(CAPTIONS) and pairs.image(0).shape == (40, 60, 3)


def test_of_several_splits_of_coco_the_one_asked_for_is_taken(tmp_path):
    folder = write_coco(tmp_path / "coco")
    content = json.loads((folder / "annotations" / "captions_val2017.json").read_text())
    content["annotations"] = [{"image_id": 7, "caption": "to train on"}]
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    (folder / "train2017").mkdir()
    (folder / "train2017" / "0.jpg").write_bytes(jpeg(50))
    assert open_pairs(folder, "train").captions == (("to train on",),)
    for split in ("dev", "val", "test"):
        assert open_pairs(folder, split).captions[0] == tuple(CAPTIONS), (
            "test captions are not public: val stands for it"
        )
    with pytest.raises(SourceError, match="'typo' among captions_train2017.json, captions_val2017.json"):
        open_pairs(folder, "typo")


@pytest.mark.parametrize("zipped", [True, False])
def test_flickr8k(tmp_path, zipped):
    folder = write_flickr8k(tmp_path / "photos", zipped)
    train, test = open_pairs(folder, "train"), open_pairs(folder, "test")
    assert train.names == ("0.jpg", "1.jpg") and train.skipped == {"lost.jpg": "the image is missing"}
    assert train.captions[0] == ("A red cube , and more .",)
    assert test.names == ("3.jpg",) and len(test.captions[0]) == 2 and test.image(0).shape == (40, 60, 3)


def test_empty_captions_and_corrupt_images_are_counted_and_named(tmp_path):
    folder = write_folder(tmp_path / "pairs", 5)
    (folder / "0.txt").write_text(" \n . \n")
    (folder / "1.txt").unlink()
    (folder / "2.jpg").write_bytes(b"not a picture")
    (folder / "3.jpg").write_bytes(b"")
    pairs = open_pairs(folder)
    good, skipped = pairs.decodable()
    assert [pairs.names[i] for i in good] == ["4.jpg"] and set(skipped) == {"0.jpg", "1.jpg", "2.jpg", "3.jpg"}
    assert "empty" in skipped["0.jpg"] and "not an image" in skipped["2.jpg"]
    assert skipped_text(skipped).startswith("4 skipped: ") and "0.jpg" in skipped_text(skipped)


def test_images_are_looked_at_once_and_counted(tmp_path):
    pairs, reads, counts = open_pairs(write_folder(tmp_path / "pairs", 4)), [], []
    pairs = replace(pairs, read=lambda name, read=pairs.read: reads.append(name) or read(name))
    good, _ = pairs.decodable(report=counts.append)
    assert len(reads) == 4 and counts == [1, 2, 3, 4]
    known = pairs.chosen(good, decoded=True).chosen([0, 2, 3])
    assert known.decodable(2)[0] == [0, 1] and len(known.decodable(2, seed=0)[0]) == 2 and len(reads) == 4


def test_samples_of_a_set_are_decoded_when_they_are_asked_for(tmp_path):
    samples, _ = pair_samples(open_pairs(write_folder(tmp_path / "pairs", 3)), 2)
    assert len(samples) == 2 and samples[1].image_rgb is not samples[1].image_rgb
    assert samples[1].image_rgb.shape == (40, 60, 3) and samples[1].references[0] in CAPTIONS


def test_where_nothing_can_be_used_the_error_says_why(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        open_pairs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no images"):
        open_pairs(tmp_path / "empty")
    folder = write_folder(tmp_path / "pairs", 1)
    (folder / "0.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match="none of 1 images"):
        open_pairs(folder).decodable()
    broken = tmp_path / "captions.json"
    broken.write_text('{"images": [{"id": 1}]}')
    with pytest.raises(SourceError, match="COCO"):
        open_pairs(broken)
    with pytest.raises(SourceError, match="split 'holiday'"):
        open_pairs(write_flickr8k(tmp_path / "photos"), "holiday")


def test_a_json_cannot_name_files_elsewhere(tmp_path):
    folder = write_coco(tmp_path / "coco", 1)
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    path = folder / "annotations" / "captions_val2017.json"
    path.write_text(path.read_text().replace("0.jpg", "../../secret.jpg"))
    with pytest.raises(SourceError, match="missing"):
        open_pairs(path)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    config = demo_config()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    tokenizer = train_tokenizer(CAPTIONS)
    config.text_config.vocab_size = len(tokenizer)
    folder = tmp_path_factory.mktemp("model") / "hf"
    save_folder(build_demo_model(0, config), tokenizer, folder)
    return folder


def test_batches_go_through_the_models_settings_and_chat_template(tmp_path, model_folder):
    path = model_folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    batches = pair_batches(model_folder, open_pairs(write_folder(tmp_path / "pairs")), size=3, seed=1)
    batch = batches.batch(0)
    assert batch["pixel_values"].shape == (3, 1, 3, 224, 224) and batch["pixel_values"].abs().max() <= 1
    assert (batch["input_ids"] == batches.tokenizer.convert_tokens_to_ids("<image>")).sum(1).tolist() == [49] * 3
    answer = batch["labels"][0][batch["labels"][0] != IGNORED_LABEL]
    assert batches.tokenizer.decode(answer).strip().startswith(tuple(CAPTIONS))
    path.write_text(json.dumps(settings | {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    other = pair_batches(model_folder, open_pairs(tmp_path / "pairs"), size=3, seed=1).batch(0)
    path.write_text(json.dumps(settings))
    torch.testing.assert_close(other["pixel_values"], batch["pixel_values"] / 2 + 0.5)


def test_a_batch_depends_on_its_step_and_seed_alone(tmp_path, model_folder):
    pairs = open_pairs(write_folder(tmp_path / "pairs"))
    first, again = (pair_batches(model_folder, pairs, size=2, seed=3, augment=True) for _ in range(2))
    again.batch(0)
    assert all(torch.equal(first.batch(1)[name], again.batch(1)[name]) for name in first.batch(1))
    other = pair_batches(model_folder, pairs, size=2, seed=4, augment=True).batch(1)
    assert not torch.equal(other["pixel_values"], first.batch(1)["pixel_values"])


def test_no_more_squares_are_kept_than_memory_is_granted_for(tmp_path, model_folder, monkeypatch):
    pairs = open_pairs(write_folder(tmp_path / "pairs", 4))
    want = pair_batches(model_folder, pairs, size=4, seed=1).batch(0)
    monkeypatch.setattr("offline_compress.pairs.batches.KEPT_BYTES", 2 * 224 * 224 * 3)
    batches = pair_batches(model_folder, pairs, size=4, seed=1)
    assert torch.equal(batches.batch(0)["pixel_values"], want["pixel_values"]) and len(batches.squares) == 2


def test_a_few_pairs_are_drawn_by_seed_around_corrupt_ones(tmp_path, model_folder):
    folder = write_folder(tmp_path / "pairs", 6)
    (folder / "5.jpg").write_bytes(b"x")
    kept = {seed: pair_batches(model_folder, open_pairs(folder), size=2, seed=seed, most=3).kept for seed in range(6)}
    assert all(len(k) == 3 and 5 not in k for k in kept.values()) and len({tuple(k) for k in kept.values()}) > 1


def test_the_chat_template_decides_and_smolvlms_is_the_default(model_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    own = chat_prompt(tokenizer, IMAGE_TOKENS)
    assert own.template == "<|im_start|>User:{image}{question}<end_of_utterance>\nAssistant:"
    tokenizer.chat_template = tokenizer.chat_template.replace("Assistant:", "Robot:")
    assert chat_prompt(tokenizer, IMAGE_TOKENS).template.endswith("Robot:")
    tokenizer.chat_template = None
    assert chat_prompt(tokenizer, IMAGE_TOKENS).template == own.template
