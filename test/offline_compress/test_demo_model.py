# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress.errors import CheckpointError  # noqa: E402
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions  # noqa: E402
from offline_compress.models.demo_model import IMAGE_TOKENS, build_demo_model, demo_config, save_folder  # noqa: E402
from offline_compress.models.loading import ImageSettings, load_vlm  # noqa: E402
from offline_compress.models.scenes import captions, sample_scene  # noqa: E402
from offline_compress.models.token_sequences import prompt_ids  # noqa: E402
from offline_compress.models.tokenizer import SPECIAL_TOKENS, train_tokenizer  # noqa: E402
from offline_compress.train.attention import use_plain_attention  # noqa: E402

TEXTS = [text for seed in range(150) for text in captions(sample_scene(seed, "train"))]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "model"
    config = demo_config()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 2
    save_folder(build_demo_model(3, config), tokenizer, path)
    return path


def test_tokenizer_says_every_caption_again(tokenizer):
    for text in [*TEXTS[:100], "ünseen wörds, 7!"]:
        ids = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == f" {text}"
    lengths = [len(tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) for text in TEXTS]
    assert max(lengths) <= 40 and len(tokenizer) <= 512
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))


def test_tokenizer_does_not_depend_on_chance(tokenizer):
    assert train_tokenizer(TEXTS).get_vocab() == tokenizer.get_vocab()


def test_prompt_equals_the_chat_template(tokenizer, folder):
    loaded = load_vlm(folder)
    content = [{"type": "image"}, {"type": "text", "text": loaded.prompt.question}]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    assert chat.replace("<image>", loaded.prompt.image) == loaded.prompt.template.format(
        image=loaded.prompt.image, question=loaded.prompt.question
    )
    ids = prompt_ids(tokenizer, loaded.prompt)
    assert ids.count(tokenizer.convert_tokens_to_ids("<image>")) == IMAGE_TOKENS == 49
    assert ids[0] == tokenizer.bos_token_id


def test_the_seed_gives_the_weights():
    first, again, other = (build_demo_model(seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    assert sum(p.numel() for p in first.parameters()) < 12e6


def test_a_folder_is_loaded_as_it_was_saved(folder, tokenizer):
    loaded = load_vlm(folder)
    assert loaded.image == ImageSettings(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert loaded.tokenizer.eos_token_id == loaded.model.config.text_config.eos_token_id
    assert loaded.model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    assert json.loads((folder / "config.json").read_text())["model_type"] == "smolvlm"


def test_plain_attention_and_cached_decoding_change_nothing(folder, tokenizer):
    loaded = load_vlm(folder)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8))
    texts = ["a red ball", "two blue mugs on a rug", "a"]
    before = list(answer_log_probabilities(loaded.model, tokenizer, loaded.prompt, images, texts))
    use_plain_attention(loaded.model)
    after = list(answer_log_probabilities(loaded.model, tokenizer, loaded.prompt, images, texts))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    said = greedy_captions(loaded.model, tokenizer, loaded.prompt, images, max_new_tokens=5)
    ids = torch.tensor([prompt_ids(tokenizer, loaded.prompt)])
    for image, text in zip(images, said, strict=True):
        pixels = torch.from_numpy(loaded.image.pixels(image))[None, None]
        sequence = ids
        for _ in range(5):  # the whole sequence anew for every token
            with torch.no_grad():
                logits = loaded.model(input_ids=sequence, pixel_values=pixels, use_cache=False).logits
            sequence = torch.cat([sequence, logits[:, -1:].argmax(-1)], 1)
        tokens = sequence[0, ids.shape[1] :].tolist()
        end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else 5
        assert tokenizer.decode(tokens[:end], skip_special_tokens=True).strip() == text


def test_images_of_any_size_are_squashed():
    settings = ImageSettings(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    wide = np.full((480, 640, 3), 255, np.uint8)
    assert settings.pixels(wide).shape == (3, 224, 224) and settings.pixels(wide).min() == 1
    with pytest.raises(InputError, match="uint8"):
        settings.pixels(np.zeros((0, 5, 3), np.uint8))


def damaged(folder, tmp_path, change):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text('{"model_type": "llava"}'), "llava"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100), "model.safetensors: truncated"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda f: (f / "preprocessor_config.json").write_text('{"image_std": [0, 1, 1]}'), "image_std"),
    ],
)
def test_damaged_folders_are_named(folder, tmp_path, change, named):
    with pytest.raises(CheckpointError, match=named):
        load_vlm(damaged(folder, tmp_path, change))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_vlm(tmp_path / "nowhere")
