# SPDX-License-Identifier: Apache-2.0
"""What tokens spell, without the tokenizer: as the tokenizer says it, and what of a file is refused."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_model import random_weights, write_bundle
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import BUNDLE_JSON, VOCABULARY_FILE, Bundle
from edge_vlm.runtime.tokenizer import CaptionTokenizer
from edge_vlm.runtime.vocabulary import Vocabulary, read_vocabulary
from offline_compress.export.prompt import Prompt
from offline_compress.export.vocabulary import spell_out

PROMPT = Prompt.smolvlm(4)
SPECIAL = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"]


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE, with words of several scripts in its merges and one added token that is not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["a dog runs over the grass", "größere Hunde über Stühlen", "犬が走る 犬が眠る", "naïve café 🐕 🐕"] * 20
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(["Größe und Maß"])
    return tokenizer


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return spell_out(tokenizer.to_str().encode(), PROMPT)


def test_it_spells_what_the_tokenizer_says(tokenizer, vocabulary):
    for text in ("a dog runs over größere Stühle", "犬が 🐕 眠る", " Größe und Maß!", "\n\t<end_of_utterance> end"):
        ids = tokenizer.encode(text).ids
        assert vocabulary.decode(ids) == tokenizer.decode(ids) and vocabulary.decode(ids)


def test_broken_letters_are_replaced_as_the_tokenizer_does(tokenizer, vocabulary):
    dog = tokenizer.encode("🐕").ids
    single = [tokenizer.token_to_id(letter) for letter in ("ð", "Ł", "Ĳ")]
    for ids in (single, single[:2], [*single[:2], *dog], [*dog, single[2]]):
        assert vocabulary.decode(ids) == tokenizer.decode(ids)
    assert "\N{REPLACEMENT CHARACTER}" in vocabulary.decode(single)


def test_the_prompt_is_the_tokenizers_and_unknown_ids_say_nothing(tokenizer, vocabulary):
    assert vocabulary.prompt.tolist().count(tokenizer.token_to_id("<image>")) == 4
    assert vocabulary.decode([-1, vocabulary.tokens, 10**9]) == ""


def test_a_tokenizer_that_does_not_spell_in_bytes_has_none(tokenizer):
    other = json.loads(tokenizer.to_str())
    for decoder in (None, {"type": "WordPiece", "prefix": "##", "cleanup": True}):
        assert spell_out(json.dumps(other | {"decoder": decoder}).encode(), PROMPT) is None


def test_a_file_gives_back_what_was_written(vocabulary, tmp_path):
    path = tmp_path / VOCABULARY_FILE
    path.write_bytes(vocabulary.to_bytes())
    again = read_vocabulary(path)
    assert (again.prompt == vocabulary.prompt).all() and (again.offsets == vocabulary.offsets).all()
    assert again.spelling == vocabulary.spelling


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:40],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: np.int32(2**31 - 1).tobytes() + data[4:],
        lambda data: np.int32(-5).tobytes() + data[4:],
    ],
)
def test_a_damaged_file_is_refused_by_name(damage, vocabulary, tmp_path):
    path = tmp_path / VOCABULARY_FILE
    path.write_bytes(damage(vocabulary.to_bytes()))
    with pytest.raises(BundleError, match=VOCABULARY_FILE):
        read_vocabulary(path)


def with_vocabulary(bundle: Bundle, vocabulary: Vocabulary) -> Bundle:
    data = vocabulary.to_bytes()
    bundle.file(VOCABULARY_FILE).write_bytes(data)
    description = json.loads(bundle.file(BUNDLE_JSON).read_text())
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    description["files"][VOCABULARY_FILE] = entry
    bundle.file(BUNDLE_JSON).write_text(json.dumps(description))
    return Bundle.load(bundle.path)


def test_one_of_another_model_is_refused(tmp_path, vocabulary):
    bundle = Bundle.load(write_bundle(tmp_path / "bundle", random_weights()))
    with pytest.raises(BundleError, match="does not fit the model's 75 tokens"):
        CaptionTokenizer(with_vocabulary(bundle, vocabulary))


def test_the_demo_captions_without_its_tokenizer(monkeypatch):
    """Until somebody asks another question."""
    path = default_bundle_path()
    plain = Bundle.load(path)
    files = {name: entry for name, entry in plain.info.files.items() if name != VOCABULARY_FILE}
    by_tokenizer = CaptionTokenizer(Bundle(path, replace(plain.info, files=files)))
    ids = by_tokenizer.encode(" a mug stands on the table.")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    quick = CaptionTokenizer(plain)
    assert (quick.prompt() == by_tokenizer.prompt()).all()
    assert quick.decode(ids) == by_tokenizer.decode(ids) == "a mug stands on the table."
    with pytest.raises(ModuleNotFoundError):
        quick.prompt("What is on the table?")
