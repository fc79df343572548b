# SPDX-License-Identifier: Apache-2.0
"""The encoder's caches, the decoder's loop and its bad inputs, on a random model, in every engine that loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import IMAGE_SIZE, make_image

from custom_ops.litert import INTERPRETERS
from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.errors import BundleError, InputError, OperatorError
from edge_vlm.runtime import DenseEncoder, Sampling, TextDecoder, VisionEncoder, interpreter
from edge_vlm.runtime.bundle import Bundle, ImageInfo
from edge_vlm.runtime.image import patchify, squash, squash_patches
from edge_vlm.runtime.interpreter import BUILTIN_NAME, engine_name, open_graph, why_not_builtin, why_not_litert
from edge_vlm.runtime.text_decoder import Generation

ALL = np.arange(64, dtype=np.int32)


@pytest.fixture(params=["numpy", "litert"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "litert" and why_not_litert():
        pytest.skip(why_not_litert())
    return request.param


@pytest.fixture
def encoder(tiny_bundle: Path, engine: str) -> VisionEncoder:
    return VisionEncoder(Bundle.load(tiny_bundle), engine=engine)


@pytest.fixture
def decoder(tiny_bundle: Path, engine: str) -> TextDecoder:
    return TextDecoder(Bundle.load(tiny_bundle), engine=engine)


def full(encoder: VisionEncoder, seed: int) -> np.ndarray:
    return encoder.encode(encoder.preprocess(make_image(seed)), ALL).copy()


def test_an_image_gives_the_same_features_whatever_came_before(encoder: VisionEncoder):
    first = full(encoder, 0)
    full(encoder, 1)
    assert np.array_equal(full(encoder, 0), first)


def test_refreshing_unchanged_tokens_changes_nothing_much(encoder: VisionEncoder):
    """Every token was computed against the same K,V of all tokens, so computing some again gives the same."""
    before, patches = full(encoder, 0), encoder.preprocess(make_image(0))
    for positions in (np.array([0]), np.array([3, 9, 63]), np.arange(10, 50)):
        after = encoder.encode(patches[positions], positions)
        assert np.allclose(after, before, rtol=1e-4, atol=1e-5)


def test_a_sparse_call_changes_the_image_tokens_of_its_patches_alone(encoder: VisionEncoder):
    before = full(encoder, 0)
    changed = encoder.preprocess(make_image(1))
    positions = np.array([0, 1, 8, 9])  # the first 2 x 2 square: image token 0
    after = encoder.encode(changed[positions], positions)
    assert not np.allclose(after[0], before[0])
    assert np.array_equal(after[1:], before[1:])


def test_all_tokens_in_steps_reach_the_new_image(encoder: VisionEncoder):
    """Two rounds of halves: the second sees what the first wrote, so it comes nearer to the dense result."""
    dense = full(encoder, 1)
    full(encoder, 0)
    patches, errors = encoder.preprocess(make_image(1)), []
    for _ in range(2 * encoder.info.vision.layers):
        for half in (ALL[:32], ALL[32:]):
            features = encoder.encode(patches[half], half)
        errors.append(float(np.abs(features - dense).max()))
    assert errors[0] > errors[-1] and errors[-1] <= 1e-3


def test_no_active_tokens_cost_nothing(encoder: VisionEncoder):
    before = full(encoder, 0)
    assert np.array_equal(encoder.encode(np.zeros((0, 48), np.float32), np.zeros(0, np.int32)), before)


def test_shallow_on_the_same_image_gives_the_full_result(encoder: VisionEncoder):
    """The deep blocks' contribution is remembered per token; with nothing changed it is the right one."""
    before, patches = full(encoder, 0), encoder.preprocess(make_image(0))
    for positions in (np.array([5, 6, 40]), ALL):
        assert np.allclose(encoder.encode(patches[positions], positions, shallow=True), before, rtol=1e-4, atol=1e-5)


def test_shallow_follows_a_change_but_keeps_the_old_deep_part(encoder: VisionEncoder):
    before, patches = full(encoder, 0), encoder.preprocess(make_image(1))
    positions = np.array([0, 1, 8, 9])
    shallow = encoder.encode(patches[positions], positions, shallow=True).copy()
    full(encoder, 0)
    sparse = encoder.encode(patches[positions], positions)
    assert not np.allclose(shallow[0], before[0]) and not np.allclose(shallow[0], sparse[0])
    assert np.array_equal(shallow[1:], before[1:])


def test_the_first_call_must_be_full(encoder: VisionEncoder):
    patches = encoder.preprocess(make_image(0))
    for arguments in ((patches[:3], ALL[:3]), (patches, ALL, True)):
        with pytest.raises(ValueError, match="first call"):
            encoder.encode(*arguments)
    full(encoder, 0)
    encoder.reset()
    with pytest.raises(ValueError, match="first call"):
        encoder.encode(patches[:3], ALL[:3])


def test_after_a_failed_call_the_next_must_be_full(encoder: VisionEncoder):
    full(encoder, 0)
    patches = encoder.preprocess(make_image(0))
    with pytest.raises(OperatorError, match="vision.tflite: encode failed"):
        encoder.encode(patches[:3, :7], ALL[:3])
    with pytest.raises(ValueError, match="first call"):
        encoder.encode(patches[:3], ALL[:3])


@pytest.mark.parametrize("positions", [[3, 2], [1, 1], [-1, 2], [5, 64], [[1, 2]]])
def test_positions_must_be_ascending_and_inside(encoder: VisionEncoder, positions: list):
    full(encoder, 0)
    with pytest.raises(ValueError, match="positions"):
        encoder.encode(np.zeros((2, 48), np.float32), np.array(positions))


@pytest.mark.parametrize("older_bundle", [False, True])
def test_a_dense_encoder_gives_the_very_features_and_asks_for_whole_images(
    encoder: VisionEncoder, tiny_bundle: Path, engine: str, older_bundle: bool
):
    dense = DenseEncoder(Bundle.load(tiny_bundle), engine=engine)
    if older_bundle:
        dense.graph.signatures = tuple(name for name in dense.graph.signatures if name != "encode_dense")
    for seed in (0, 1, 0):
        assert np.array_equal(full(dense, seed), full(encoder, seed))
    patches = dense.preprocess(make_image(0))
    for positions, shallow in ((ALL[:9], False), (ALL[:0], False), (ALL, True)):
        with pytest.raises(ValueError, match="all 64 tokens in full"):
            dense.encode(patches[positions], positions, shallow)
    assert np.array_equal(full(dense, 1), full(encoder, 1))


def test_generation_is_repeatable_and_measured(encoder: VisionEncoder, decoder: TextDecoder):
    features = full(encoder, 0)
    first, second = decoder.generate(features), decoder.generate(features)
    assert (first.text, first.token_ids) == (second.text, second.token_ids)
    assert np.allclose(first.token_probabilities, second.token_probabilities, rtol=1e-5)
    assert len(first.token_ids) == len(first.token_probabilities) <= 12 and 0 < first.score <= 1
    assert first.prefill_ms > 0 and first.decode_ms >= 0
    shorter = decoder.generate(features, max_new_tokens=2)
    assert shorter.token_ids == first.token_ids[:2] and not shorter.finished


def test_score_agrees_with_the_probabilities_of_generation(encoder: VisionEncoder, decoder: TextDecoder):
    features = full(encoder, 0)
    made = decoder.generate(features, max_new_tokens=1)
    scores = decoder.score(features, made.text)
    assert len(scores) == 2 and (scores <= 0).all()
    assert np.isclose(np.exp(scores[0]), made.token_probabilities[0], rtol=1e-4)
    after = decoder.generate(features, max_new_tokens=1)
    assert after.token_ids == made.token_ids  # scoring leaves nothing behind


def test_what_is_held_from_call_to_call_changes_no_bit(encoder: VisionEncoder, decoder: TextDecoder, engine: str):
    """Prompt K,V before the first changed image token, and the last caption as a draft."""
    rng = np.random.default_rng(0)
    features = full(encoder, 0)
    for first_changed in (16, 16, 9, 0, 3, 15, 16):
        features = features.copy()
        features[first_changed:] += rng.normal(0, 0.1, features[first_changed:].shape).astype(np.float32)
        kept = decoder.generate(features)
        held = decoder.held
        decoder.reset()
        fresh = decoder.generate(features)
        assert kept.token_ids == fresh.token_ids
        if engine == "litert":  # NumPy's matrix products round by the number of rows
            assert kept.token_probabilities == fresh.token_probabilities
            assert held.first == decoder.held.first
        assert fresh.prefilled_tokens == fresh.prompt_tokens
        after_prefix = np.flatnonzero(held.prompt == decoder.info.text.image_token_id)[first_changed:]
        expected = fresh.prompt_tokens - after_prefix[0] if len(after_prefix) else 0
        assert kept.prefilled_tokens in (expected, fresh.prompt_tokens)


def test_sampled_captions_depend_on_the_seed_alone(encoder: VisionEncoder, decoder: TextDecoder):
    features = full(encoder, 0)
    greedy = decoder.generate(features).token_ids
    made = {}
    for seed in range(4):
        made[seed] = decoder.generate(features, sampling=Sampling(3.0, 20, seed)).token_ids
        decoder.reset()
        assert decoder.generate(features, sampling=Sampling(3.0, 20, seed)).token_ids == made[seed]
    assert len(set(made.values())) > 1
    assert decoder.generate(features, sampling=Sampling(3.0, top_k=1)).token_ids == greedy
    with pytest.raises(ValueError, match="temperature"):
        Sampling(-1.0)


def test_graphs_without_a_choice_of_their_own_give_the_same(encoder: VisionEncoder, decoder: TextDecoder):
    """As bundles of earlier versions have them: logits leave the graph."""
    features = full(encoder, 0)
    for sampling in (Sampling(), Sampling(2.0, 5, 3)):
        made = decoder.generate(features, sampling=sampling)
        signatures, decoder.graph.signatures = decoder.graph.signatures, ("prefill", "score", "decode")
        decoder.reset()
        plain = decoder.generate(features, sampling=sampling)
        decoder.graph.signatures = signatures
        assert plain.token_ids == made.token_ids
        np.testing.assert_allclose(plain.token_probabilities, made.token_probabilities, rtol=1e-5)


def test_another_question_or_limit_gives_what_it_gives_afresh(encoder: VisionEncoder, decoder: TextDecoder):
    features = full(encoder, 0)
    for question, limit in ((None, 12), (None, 3), ("red", 12), (None, 1), (None, 12), ("red", 0)):
        kept = decoder.generate(features, question, limit)
        decoder.reset()
        assert kept.token_ids == decoder.generate(features, question, limit).token_ids


def test_captions_stop_at_the_end_of_the_context(encoder: VisionEncoder, decoder: TextDecoder):
    made = decoder.generate(full(encoder, 0), max_new_tokens=10_000)
    assert made.finished or made.prompt_tokens + len(made.token_ids) == decoder.info.text.context_length


def test_questions_that_cannot_be_asked(decoder: TextDecoder):
    features = np.zeros((16, 42), np.float32)
    for question, problem in (("what is <image> ?", "17 image tokens"), ("red " * 200, "tokens, the model's context")):
        with pytest.raises(InputError, match=problem) as caught:
            decoder.generate(features, question)
        assert caught.value.remedy
    with pytest.raises(InputError, match="does not fit"):
        decoder.score(features, "red " * 90)
    assert decoder.generate(features, "{image} red {question}").prompt_tokens > 16  # braces are only text


def test_a_tokenizer_of_another_model_is_refused(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    value = json.loads((folder / "tokenizer.json").read_text())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] != "<image>"]
    (folder / "tokenizer.json").write_text(json.dumps(value))
    size = (folder / "tokenizer.json").stat().st_size
    description = json.loads((folder / "bundle.json").read_text())
    description["files"]["tokenizer.json"]["bytes"] = size
    (folder / "bundle.json").write_text(json.dumps(description))
    with pytest.raises(BundleError, match="tokenizer.json.*image tokens"):
        TextDecoder(Bundle.load(folder, verify=False), engine="numpy")
    (folder / "tokenizer.json").write_bytes(b"x" * size)
    with pytest.raises(BundleError, match="tokenizer.json: the tokenizer cannot be read"):
        TextDecoder(Bundle.load(folder, verify=False), engine="numpy")


def test_a_file_that_is_no_graph_is_named(engine: str, tmp_path: Path):
    (tmp_path / "vision.tflite").write_bytes(b"not a flatbuffer" * 100)
    with pytest.raises(BundleError, match=r"vision.tflite: .* \(not a .tflite file\)\n  remedy: copy the bundle again"):
        open_graph(tmp_path / "vision.tflite", engine=engine)


@pytest.mark.parametrize("runtime", list(INTERPRETERS))
def test_the_demo_bundle_captions_in_every_runtime_that_is_installed(runtime: str):
    """In a process of its own: one process holds one runtime."""
    pytest.importorskip(INTERPRETERS[runtime][0], reason=f"{runtime} is not installed")
    environment = {**os.environ, "EDGE_VLM_RUNTIME": runtime}
    done = subprocess.run([sys.executable, "-m", "edge_vlm", "doctor", "--json"], env=environment, capture_output=True)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert runtime in checks["caption"]["detail"] and "edge_vlm operators" in checks["caption"]["detail"]


@pytest.fixture
def no_operators(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EDGE_VLM_RUNTIME", raising=False)
    monkeypatch.setattr(interpreter, "why_not_litert", lambda threads: "no compiler; remedy: install g++")
    interpreter.warned_of.cache_clear()


@pytest.mark.parametrize(("lacking", "name"), [("int2 is refused", "NumPy reference"), ("", BUILTIN_NAME)])
def test_without_operators_others_take_over_with_a_warning(
    lacking: str, name: str, tiny_bundle: Path, no_operators, monkeypatch: pytest.MonkeyPatch, caplog
):
    if not lacking and why_not_builtin():
        pytest.skip(why_not_builtin())
    monkeypatch.setattr(interpreter, "why_not_builtin", lambda: lacking)
    for _ in range(2):
        assert open_graph(tiny_bundle / "vision.tflite").engine_name == name
    assert [record.message.count("install g++") for record in caplog.records] == [1]
    assert "install g++" in engine_name() and lacking in engine_name() and name in engine_name()


@pytest.mark.skipif(bool(why_not_litert() or why_not_builtin()), reason=why_not_litert() or why_not_builtin())
def test_without_operators_the_demo_bundle_says_the_same(no_operators, monkeypatch: pytest.MonkeyPatch):
    bundle = Bundle.load(default_bundle_path())
    image = np.zeros((120, 160, 3), np.uint8)
    image[60:] = (150, 120, 90)
    image[50:90, 60:100] = (200, 30, 30)
    made = {}
    for engine in ("litert", None):
        encoder, decoder = VisionEncoder(bundle, engine=engine), TextDecoder(bundle, engine=engine)
        features = encoder.encode(encoder.preprocess(image), np.arange(bundle.vision.tokens))
        made[engine] = decoder.generate(features)
    assert decoder.graph.engine_name == BUILTIN_NAME
    assert made[None].text == made["litert"].text and made[None].text
    assert abs(made[None].score - made["litert"].score) < 0.05


def test_patches_are_normalised_pixels_in_channel_y_x_order():
    info = ImageInfo(8, 4, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    patches = patchify(image, info)
    assert patches.shape == (4, 48) and patches.dtype == np.float32
    for channel, y, x in ((0, 0, 0), (1, 2, 3), (2, 3, 1)):
        expected = (image[4 + y, x, channel] / 255 - info.mean[channel]) / info.std[channel]  # patch 2: row 1, column 0
        assert np.isclose(patches[2, 16 * channel + 4 * y + x], expected, atol=1e-6)
    assert np.array_equal(patchify(image, info, np.array([1, 3])), patches[[1, 3]])


@pytest.mark.parametrize(("height", "width"), [(480, 640), (360, 640), (97, 211), (64, 300), (33, 40)])
def test_some_squashed_patches_are_those_of_the_whole(height: int, width: int):
    info = ImageInfo(32, 4, (0.5,) * 3, (0.5,) * 3)
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = patchify(squash(image, 32), info)
    for positions in ([0], [63], [9, 10, 18], [7, 56], [0, 2, 7, 27, 29, 56, 63], list(range(64)), []):
        positions = np.array(positions, np.int32)
        some = patchify(squash_patches(image, info, positions), info, positions)
        assert np.array_equal(some, whole[positions])


def test_squash_keeps_colours_and_takes_any_size():
    for height, width in ((1, 1), (480, 640), (20, 900), (IMAGE_SIZE, IMAGE_SIZE)):
        image = np.full((height, width, 3), (200, 100, 50), np.uint8)
        squashed = squash(image, IMAGE_SIZE)
        assert squashed.shape == (IMAGE_SIZE, IMAGE_SIZE, 3) and (squashed == (200, 100, 50)).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3))],
)
def test_what_is_no_image_is_refused(image: np.ndarray):
    with pytest.raises(InputError) as caught:
        squash(image, IMAGE_SIZE)
    assert caught.value.remedy


def test_the_score_of_a_caption_is_a_geometric_mean():
    made = Generation("a b", (1, 2), (0.25, 1.0), True, 3, 3, 1, 1, 1, 1.0, 1.0)
    assert np.isclose(made.score, 0.5)
    assert Generation("", (), (), True, 3, 3, 1, 1, 1, 1.0, 1.0).score == 0.0
