# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress.export.prompt import Prompt  # noqa: E402
from offline_compress.models.photo_model import build_photo_model, photo_config  # noqa: E402
from offline_compress.models.photo_views import PhotoViews, view_of  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402
from offline_compress.train.attention import use_plain_attention  # noqa: E402
from offline_compress.train.distillation import IGNORED_LABEL  # noqa: E402
from offline_compress.train.packed_captions import encode, packed  # noqa: E402
from offline_compress.train.photo_batches import PhotoBatches, TextBatches  # noqa: E402
from offline_compress.train.photo_trainer import (  # noqa: E402
    PhotoTrainer,
    PhotoTrainingConfig,
    caption_loss,
)

CAPTIONS = [
    ("a dog runs", "a brown dog on the left"),
    ("two boys", "boys on a field of grass"),
    ("a cat", "a cat sits"),
]


def small_config(vocabulary):
    config = photo_config(vocabulary)
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.intermediate_size, vision.num_attention_heads, vision.num_hidden_layers = 32, 48, 2, 2
    vision.image_size = 56  # 4 x 4 patches
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.head_dim = 32, 48, 2, 8
    return config


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(text for texts in CAPTIONS for text in texts)


def make_batches(tokenizer, views=2):
    rng = np.random.default_rng(0)
    pixels = tuple(rng.integers(0, 256, (3, 56, 56, 3), dtype=np.uint8) for _ in range(views))
    features = tuple(rng.standard_normal((3, 49, 6)).astype(np.float16) for _ in range(views))
    return PhotoBatches(PhotoViews(pixels, features), CAPTIONS, tokenizer, Prompt.smolvlm(4), 2, ("dog", "cat"), seed=1)


def make_trainer(tokenizer, **options):
    model = build_photo_model(small_config(len(tokenizer)))
    use_plain_attention(model)
    texts = TextBatches([text for texts in CAPTIONS for text in texts], tokenizer, Prompt.smolvlm(4), 1)
    config = PhotoTrainingConfig(**({"steps": 6, "text_steps": 2, "warmup_steps": 1} | options))
    return PhotoTrainer(model, make_batches(tokenizer), config, texts=texts)


def test_packed_captions_are_learned_as_if_each_stood_alone(tokenizer):
    model = build_photo_model(small_config(len(tokenizer))).eval()
    use_plain_attention(model)
    batch = make_batches(tokenizer).batch(0)
    together = caption_loss(model, batch, encode(model, batch["pixel_values"][:, 0]), 0.0)
    total = count = 0
    batches = make_batches(tokenizer)
    order = np.sort(np.random.default_rng([1, 0, 0]).permutation(3)[:2])
    for row, photo in enumerate(order):
        mirrored = PhotoViews.mirrored(photo % 2)
        for answer, sided in zip(batches.answers[photo], batches.sided[photo], strict=True):
            if mirrored and sided:
                continue
            ids = torch.tensor([[*batches.prompt, *answer]])
            logits = model(input_ids=ids, pixel_values=batch["pixel_values"][row : row + 1], use_cache=False).logits
            scores = torch.log_softmax(logits[0, len(batches.prompt) - 1 : -1], -1)
            total -= scores.gather(1, torch.tensor(answer)[:, None]).sum().item()
            count += len(answer)
    assert together.item() == pytest.approx(total / count, rel=1e-4)


def test_captions_with_sides_are_not_told_of_mirrored_views(tokenizer):
    batches = make_batches(tokenizer)
    left = batches.answers[0][1]
    for step in range(8):
        epoch = step  # one batch of two of three photos per epoch
        chosen = np.sort(np.random.default_rng([1, 0, epoch]).permutation(3)[:2])
        batch = batches.batch(step)
        for row, photo in enumerate(chosen):
            told = [v for v in batch["labels"][row].tolist() if v != IGNORED_LABEL]
            if photo == 0:
                mirrored = PhotoViews.mirrored((photo + epoch) % 2)
                assert (len(told) == len(batches.answers[0][0])) == mirrored
                assert (told[-len(left) :] == left) != mirrored


def test_packed_sequences_see_prompt_and_own_caption_only():
    batch = packed([5, 6, 7], [[[1, 2], [3]], [[4]]], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 7], [5, 6, 7, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 1, 2, 3], [-100, -100, 4, -100, -100]]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 2]
    assert batch["attention_mask"][0, 0, 4].tolist() == [True, True, False, False, True]


def test_a_resumed_training_gives_the_same_weights_and_may_be_shortened_before_the_decay(tokenizer):
    whole, first = make_trainer(tokenizer), make_trainer(tokenizer)
    saved = []
    whole.run(lambda p: None, lambda t: None)
    for _ in range(3):
        first.train_step()
        first.step += 1
    saved.append(first.state())
    again = make_trainer(tokenizer)
    again.restore(saved[0], "checkpoint.pt")
    again.run(lambda p: None, lambda t: None)
    for a, b in zip(whole.kept.parameters(), again.kept.parameters(), strict=True):
        assert torch.equal(a, b)
    longer = make_trainer(tokenizer, steps=20)
    longer.restore(saved[0], "checkpoint.pt")
    with pytest.raises(InputError, match="other training options"):
        make_trainer(tokenizer, rate=0.5).restore(saved[0], "checkpoint.pt")


def test_both_stages_learn_and_frozen_blocks_stay(tokenizer):
    trainer = make_trainer(tokenizer, steps=40, text_steps=8, frozen_blocks=1, rate=3e-3, checkpoint_every=100)
    before = [p.clone() for p in trainer.vision.encoder.layers[0].parameters()]
    losses = []
    trainer.run(lambda p: losses.append(p.losses), lambda t: None)
    assert set(losses[0]) == {"answer"} and set(losses[-1]) == {"answer", "features", "topics"}
    assert losses[7]["answer"] < losses[0]["answer"] and losses[-1]["answer"] < losses[8]["answer"]
    after = trainer.vision.encoder.layers[0].parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_view_depends_on_its_number_and_the_photo_alone():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert view_of(image, 0, 3) is image
    crop = view_of(image, 2, 3)
    assert np.array_equal(crop, view_of(image, 2, 3)) and crop.shape != view_of(image, 2, 4).shape
    assert crop.shape[0] * crop.shape[1] >= 0.4 * 40 * 50
