# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_vlm.errors import InputError, SourceError  # noqa: E402
from offline_compress.export.prompt import Prompt  # noqa: E402
from offline_compress.models.mobilenet_features import FEATURES, MAPS  # noqa: E402
from offline_compress.models.packed_captions import encode, packed  # noqa: E402
from offline_compress.models.photo_model import build_photo_model, photo_config  # noqa: E402
from offline_compress.models.token_sequences import IGNORED_LABEL  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402
from offline_compress.pairs.captioned_images import CaptionedImages  # noqa: E402
from offline_compress.train.attention import use_plain_attention  # noqa: E402
from offline_compress.train.photo_batches import GlimpseBatches, PhotoBatches, TextBatches  # noqa: E402
from offline_compress.train.photo_trainer import (  # noqa: E402
    PhotoTrainer,
    PhotoTrainingConfig,
    StagedBatches,
    Stages,
    caption_loss,
)
from offline_compress.train.photo_training import require_same_words  # noqa: E402
from offline_compress.train.photo_views import PhotoViews, View  # noqa: E402
from offline_compress.train.teacher_bridge import TeacherBridge, TeacherEyes, by_cell, distance  # noqa: E402

CAPTIONS = [
    ("a dog runs", "a brown dog on the left"),
    ("two boys", "boys on a field of grass"),
    ("a cat", "a cat sits"),
]
SIZE, CELLS, TOKENS = 56, 14, 49
FEW = Stages(2, 2, 2, 2)


class Teacher:
    """In the place of MobileNetV2: sees the mean colour of each field, in the first three channels of each map."""

    def __call__(self, image_rgb):
        maps = {name: np.zeros((side * side, channels), np.float32) for name, (side, channels) in MAPS.items()}
        for name, (side, _) in MAPS.items():
            seen = cv2.resize(image_rgb, (side, side), interpolation=cv2.INTER_AREA)
            maps[name][:, :3] = seen.reshape(-1, 3) / 255
        return maps


def small_config(vocabulary):
    config = photo_config(vocabulary)
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.intermediate_size, vision.num_attention_heads, vision.num_hidden_layers = 32, 48, 2, 2
    vision.image_size, vision.patch_size = SIZE, SIZE // CELLS
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.head_dim = 32, 48, 2, 8
    return config


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(text for texts in CAPTIONS for text in texts)


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (5, 6, 3), dtype=np.uint8) for _ in CAPTIONS]
    encoded = [cv2.imencode(".png", cv2.resize(image, (48, 40)))[1].tobytes() for image in coarse]
    photos = CaptionedImages("test", ("0", "1", "2"), tuple(CAPTIONS), lambda name: encoded[int(name)])
    return PhotoViews(photos, Teacher(), SIZE)


def make_batches(views, tokenizer):
    return PhotoBatches(views, CAPTIONS, tokenizer, Prompt.smolvlm(TOKENS), 2, seed=1)


def maps_of(views):
    seen = [views.whole(i).maps for i in range(3)]
    return {name: np.stack([maps[name] for maps in seen]) for name in MAPS}


def make_trainer(views, tokenizer, stages=FEW, **options):
    model = build_photo_model(small_config(len(tokenizer)))
    use_plain_attention(model)
    texts = TextBatches([text for texts in CAPTIONS for text in texts], tokenizer, Prompt.smolvlm(TOKENS), 1)
    batches = StagedBatches(stages, texts, make_batches(views, tokenizer), GlimpseBatches(views, 4, 1))
    torch.manual_seed(0)
    bridge = TeacherBridge(32, CELLS, 32, maps_of(views))
    config = PhotoTrainingConfig(stages, **({"warmup_steps": 1, "bf16": False, "dropout": 0.0} | options))
    return PhotoTrainer(model, batches, bridge, config)


def test_packed_captions_are_learned_as_if_each_stood_alone(views, tokenizer):
    model = build_photo_model(small_config(len(tokenizer))).eval()
    use_plain_attention(model)
    batches = make_batches(views, tokenizer)
    batch = batches.batch(0)
    together = caption_loss(model, batch, encode(model, batch["pixel_values"][:, 0]), 0.0)
    total = count = 0
    for row in range(2):
        pixels, labels = batch["pixel_values"][row : row + 1], batch["labels"][row]
        answer = []
        for token in labels[labels != IGNORED_LABEL].tolist():
            answer.append(token)
            if token != tokenizer.eos_token_id:
                continue
            ids = torch.tensor([[*batches.prompt, *answer]])
            logits = model(input_ids=ids, pixel_values=pixels, use_cache=False).logits
            scores = torch.log_softmax(logits[0, len(batches.prompt) - 1 : -1], -1)
            total -= scores.gather(1, torch.tensor(answer)[:, None]).sum().item()
            count, answer = count + len(answer), []
    assert together.item() == pytest.approx(total / count, rel=1e-4)


def test_captions_with_sides_are_not_told_of_mirrored_views(views, tokenizer):
    batches = make_batches(views, tokenizer)
    straight, mirrored = (View(np.zeros((SIZE, SIZE, 3)), {}, flag) for flag in (False, True))
    assert batches.told(0, straight) == batches.answers[0]
    assert batches.told(0, mirrored) == batches.answers[0][:1]
    assert batches.told(1, mirrored) == batches.answers[1]


def test_packed_sequences_see_prompt_and_own_caption_only():
    batch = packed([5, 6, 7], [[[1, 2], [3]], [[4]]], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 7], [5, 6, 7, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 1, 2, 3], [-100, -100, 4, -100, -100]]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 2]
    assert batch["attention_mask"][0, 0, 4].tolist() == [True, True, False, False, True]


def test_a_view_depends_on_its_generator_alone_and_the_teacher_sees_the_same_picture(views):
    for kind in (views.told, views.glimpse):
        first, again, other = (kind(1, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert not np.array_equal(first.pixels, other.pixels)
        assert np.array_equal(first.pixels, again.pixels)
        seen = Teacher()(first.pixels)
        for name in MAPS:
            assert np.array_equal(first.maps[name], again.maps[name])
            assert np.abs(seen[name] - first.maps[name]).max() < 0.2, "another picture would be further away"


def test_stages_follow_one_another_and_each_learns_its_own_part(views, tokenizer):
    trainer = make_trainer(views, tokenizer, Stages(8, 30, 40, 10), matrix_rate=0.01, rate=3e-3)
    losses, changed = [], []
    eyes, tongue = trainer.model.model.vision_model, trainer.model.model.text_model

    def report(progress):
        losses.append(progress.losses)
        changed.append(
            tuple(float(sum(p.detach().double().sum() for p in part.parameters())) for part in (eyes, tongue))
        )

    trainer.run(report, lambda t: None)
    assert [set(losses[i]) for i in (0, 8, 38, 78)] == [
        {"answer"}, {"answer"}, {"hidden", *MAPS}, {"answer", "hidden", *MAPS},
    ]  # fmt: skip
    assert losses[37]["answer"] < losses[8]["answer"] < losses[0]["answer"]
    assert all(losses[77][name] < 0.7 * losses[38][name] for name in ("hidden", "edges", "parts"))
    assert changed[0][0] == changed[37][0] and changed[0][1] != changed[37][1], "eyes rest while the text half learns"
    assert changed[38][1] == changed[77][1] and changed[38][0] != changed[77][0], "and the other way round"
    assert changed[78][0] != changed[87][0] and changed[78][1] != changed[87][1]


def test_an_encoder_that_gives_the_adapted_features_is_at_distance_zero(views, tokenizer):
    bridge = make_trainer(views, tokenizer).heads
    features = torch.from_numpy(maps_of(views)[FEATURES])
    images = torch.from_numpy(np.stack([views.whole(i).pixels for i in range(3)])).permute(0, 3, 1, 2) / 127.5 - 1
    eyes = TeacherEyes(Teacher(), bridge)(images).last_hidden_state
    assert eyes.shape == (3, TOKENS, 32)
    assert distance(bridge.adapted(features), bridge.adapted(features)).item() == 0
    assert distance(eyes, bridge.adapted(features)).item() < 0.05, "but for resizing"


def test_a_finer_map_is_told_by_the_cell_that_it_lies_in():
    fine = torch.arange(16.0).reshape(1, 16, 1)  # 4 x 4
    assert by_cell(fine, 4)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert torch.equal(by_cell(fine, 16), fine)


def test_another_run_begins_with_the_weights_that_one_ended_in(views, tokenizer):
    first = make_trainer(views, tokenizer)
    first.run(lambda p: None, lambda t: None)
    second, anew = (make_trainer(views, tokenizer, Stages(0, 0, 2, 2)) for _ in range(2))
    second.begin_from(first.state(), "checkpoint.pt")
    for a, b in zip(first.kept.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first.heads.adapter[0].weight, second.heads.adapter[0].weight)
    second.run(lambda p: None, lambda t: None)
    assert not torch.equal(next(first.kept.parameters()), next(second.kept.parameters()))
    with pytest.raises(InputError, match="other training options or data"):
        anew.restore(second.state(), "checkpoint.pt")
    with pytest.raises(InputError, match="not of this captioner"):
        anew.begin_from({"kept": {}, "heads": {}}, "checkpoint.pt")


def test_a_run_is_not_begun_from_one_with_other_words(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    require_same_words(tmp_path / "tokenizer.json", tokenizer)
    with pytest.raises(InputError, match="other captions"):
        require_same_words(tmp_path / "tokenizer.json", train_tokenizer(["one dog", "two dogs in the snow"]))
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        require_same_words(tmp_path / "nowhere" / "tokenizer.json", tokenizer)


def test_a_resumed_training_gives_the_same_weights_and_other_lengths_may_follow(views, tokenizer):
    whole, first = make_trainer(views, tokenizer), make_trainer(views, tokenizer)
    whole.run(lambda p: None, lambda t: None)
    for _ in range(5):
        first.train_step()
        first.step += 1
    again = make_trainer(views, tokenizer)
    again.restore(first.state(), "checkpoint.pt")
    again.run(lambda p: None, lambda t: None)
    for a, b in zip(whole.kept.parameters(), again.kept.parameters(), strict=True):
        assert torch.equal(a, b)
    make_trainer(views, tokenizer, Stages(2, 2, 9, 9)).restore(first.state(), "checkpoint.pt")
    with pytest.raises(InputError, match="other training options"):
        make_trainer(views, tokenizer, rate=0.5).restore(first.state(), "checkpoint.pt")
