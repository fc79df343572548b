# SPDX-License-Identifier: Apache-2.0
"""Exported bundles against transformers: the same features, logits and greedy tokens, float and quantised."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import CONFIG, make_image, random_tensors, random_weights, write_bundle

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from custom_ops.spec import CacheFormat, WeightFormat  # noqa: E402
from edge_vlm.runtime.bundle import Bundle  # noqa: E402
from edge_vlm.runtime.interpreter import why_not_litert  # noqa: E402
from edge_vlm.runtime.text_decoder import TextDecoder  # noqa: E402
from edge_vlm.runtime.vision_encoder import VisionEncoder  # noqa: E402
from offline_compress.export.bundle_writer import ExportOptions, choose_cache_format  # noqa: E402
from offline_compress.export.model_shape import read_text_shape, read_vision_shape  # noqa: E402
from offline_compress.export.module_names import EMBED_TOKENS, HEAD, linear_names  # noqa: E402
from offline_compress.export.vision_graph import pixel_shuffle_rows  # noqa: E402
from offline_compress.export.weights import LinearWeights, ModelWeights  # noqa: E402
from offline_compress.quantize.plan import default_plan  # noqa: E402
from offline_compress.quantize.replace import quantise_model, to_model_weights  # noqa: E402


@pytest.fixture(params=["numpy", "litert"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "litert" and why_not_litert():
        pytest.skip(why_not_litert())
    return request.param


def torch_model(config: dict = CONFIG, seed: int = 0):
    """transformers' own model with the tensors of `random_weights`."""
    model = transformers.SmolVLMForConditionalGeneration(transformers.SmolVLMConfig(**copy.deepcopy(config)))
    state = {name: torch.from_numpy(value) for name, value in random_tensors(seed, config).items()}
    _, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    model.tie_weights()
    return model.eval()


def pixel_values(encoder: VisionEncoder, image: np.ndarray):
    """The encoder's own patches, put together as transformers wants them: (1, 1, 3, size, size)."""
    grid, patch, size = encoder.info.vision.grid, encoder.info.image.patch_size, encoder.info.image.size
    patches = encoder.preprocess(image).reshape(grid, grid, 3, patch, patch)
    return torch.from_numpy(np.ascontiguousarray(patches.transpose(2, 0, 3, 1, 4)).reshape(1, 1, 3, size, size))


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Relative error in the Euclidean norm."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def compare(model, encoder: VisionEncoder, decoder: TextDecoder, image: np.ndarray) -> tuple[float, bool]:
    """The largest error of features, score, prefill and decode logits; whether the greedy tokens are the same."""
    features = encoder.encode(encoder.preprocess(image), np.arange(encoder.info.vision.tokens))
    prompt = decoder.tokenizer.prompt()
    with torch.no_grad():
        pixels, ids = pixel_values(encoder, image), torch.from_numpy(prompt.astype(np.int64))[None]
        expected_features = torch.cat(list(model.model.get_image_features(pixels).pooler_output)).numpy()
        expected = model(input_ids=ids, pixel_values=pixels).logits[0].numpy()
    errors = [
        difference(features, expected_features.reshape(features.shape)),
        difference(decoder.run("score", prompt, 0, features), expected),
        difference(decoder.run("prefill", prompt, 0, features), expected[-1:]),
    ]
    decoder.run("prefill", prompt[:-2], 0, features)
    for position in (len(prompt) - 2, len(prompt) - 1):
        logits = decoder.run("decode", prompt[position : position + 1], position)
        errors.append(difference(logits, expected[position : position + 1]))
    return max(errors), list(decoder.generate(features).token_ids) == greedy(model, ids, pixels, decoder)


def compare_bundle(model, path: Path, engine: str, images: int = 1) -> list[tuple[float, bool]]:
    bundle = Bundle.load(path)
    encoder, decoder = VisionEncoder(bundle, engine=engine), TextDecoder(bundle, engine=engine)
    return [compare(model, encoder, decoder, make_image(seed)) for seed in range(images)]


def greedy(model, ids, pixels, decoder: TextDecoder) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < decoder.info.generation.max_new_tokens:
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels).logits[0, -1]
        token = int(logits.argmax())
        if token == decoder.info.text.eos_token_id:
            break
        tokens.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return tokens


def test_original_equals_transformers(tiny_bundle: Path, engine: str):
    for error, same_tokens in compare_bundle(torch_model(), tiny_bundle, engine, images=2):
        assert error <= 1e-4 and same_tokens


@pytest.mark.parametrize("method", ["ternary", "binary", "int8"])
def test_quantised_equals_its_fake_quantised_twin(method: str, engine: str, tmp_path: Path):
    """Most images agree to float rounding, all within a few per cent.

    A difference of 1e-7 may flip the int8 code of one activation, which in a random model 36 channels wide moves
    logits by 1-3 %; a wrong graph would move all images by far more.
    """
    model = torch_model()
    quantise_model(model, default_plan(CONFIG, method).resolve(linear_names(CONFIG)))
    bundle = write_bundle(tmp_path / "bundle", to_model_weights(model, CONFIG), method)
    results = compare_bundle(model, bundle, engine, images=5)
    errors = [error for error, _ in results]
    assert np.median(errors) <= 1e-2 and max(errors) <= 0.1
    close = [same_tokens for error, same_tokens in results if error <= 1e-4]
    assert close and all(close)


@pytest.mark.parametrize(("cache_format", "limit"), [(CacheFormat.FLOAT16, 1e-2), (CacheFormat.INT8, 0.1)])
def test_small_caches_stay_near_transformers(cache_format: CacheFormat, limit: float, engine: str, tmp_path: Path):
    """Float weights: all that differs is how K and V are kept."""
    path = write_bundle(tmp_path / "bundle", random_weights(), cache_format=cache_format)
    for error, _ in compare_bundle(torch_model(), path, engine, images=2):
        assert 1e-4 < error <= limit


def test_large_quantised_models_keep_k_and_v_as_int8():
    config = copy.deepcopy(CONFIG)
    config["text_config"].update(max_position_embeddings=100_000)
    for variant, length, expected in [
        ("ternary", 96, "FLOAT32"),
        ("ternary", 100_000, "INT8"),
        ("original", 100_000, "FLOAT32"),
    ]:
        options = ExportOptions(variant, "m", context_length=length)
        assert choose_cache_format(read_vision_shape(config), read_text_shape(config), options).name == expected


def test_untied_tables_are_kept_apart(tmp_path: Path, engine: str):
    config = {**CONFIG, "tie_word_embeddings": False}
    tensors = {**random_tensors(0, config), "lm_head.weight": random_tensors(7)[f"{EMBED_TOKENS}.weight"]}
    weights = ModelWeights.from_tensors(config, tensors, "an untied model")
    assert not weights.tied and weights.linears[HEAD] is not weights.linears[EMBED_TOKENS]
    model = torch_model(config)
    model.lm_head.weight = torch.nn.Parameter(torch.from_numpy(tensors["lm_head.weight"]))
    [(error, same_tokens)] = compare_bundle(model, write_bundle(tmp_path / "bundle", weights), engine)
    assert error <= 1e-4 and same_tokens


def test_embedding_and_head_share_their_bytes(tmp_path: Path):
    """Nothing else grows when a tied table is used twice."""
    tied = random_weights()
    untied = replace(tied, linears={**tied.linears, EMBED_TOKENS: copied(tied.linears[HEAD])})
    sizes = [
        (write_bundle(tmp_path / name, weights) / "text.tflite").stat().st_size
        for name, weights in (("tied", tied), ("untied", untied))
    ]
    assert sizes[1] - sizes[0] >= tied.linears[HEAD].codes.nbytes


def copied(linear: LinearWeights) -> LinearWeights:
    return replace(linear, codes=linear.codes.copy(), scale=linear.scale.copy())


@pytest.mark.parametrize(("grid", "factor"), [(14, 2), (32, 4), (27, 3), (8, 2)])
def test_pixel_shuffle_rows_are_those_of_transformers(grid: int, factor: int):
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

    tokens = torch.arange(grid * grid * 5, dtype=torch.float32).reshape(1, grid * grid, 5)
    expected = SmolVLMConnector.pixel_shuffle(None, tokens, factor)[0].numpy()
    ours = tokens[0].numpy()[pixel_shuffle_rows(grid, factor)].reshape(expected.shape)
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("grid", [14, 32, 27, 26, 8])
def test_patch_i_takes_position_row_i(grid: int):
    """transformers buckets fractional coordinates; for a full square image that is the identity."""
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

    config = transformers.SmolVLMConfig(vision_config={"image_size": grid * 2, "patch_size": 2, "hidden_size": 2})
    embeddings = SmolVLMVisionEmbeddings(config.vision_config)
    with torch.no_grad():
        embeddings.patch_embedding.weight.zero_()
        embeddings.patch_embedding.bias.zero_()
        embeddings.position_embedding.weight[:, 0] = torch.arange(grid * grid)
        found = embeddings(torch.zeros(1, 3, grid * 2, grid * 2), torch.ones(1, grid, grid, dtype=torch.bool))
    assert found[0, :, 0].int().tolist() == list(range(grid * grid))


def test_multiply_accumulates_are_those_of_the_matrices(tiny_bundle: Path):
    weights, info = random_weights(), Bundle.load(tiny_bundle).info
    size = {name: linear.codes.size for name, linear in weights.linears.items()}
    patch = size["model.vision_model.embeddings.patch_embedding"]
    blocks = [sum(n for name, n in size.items() if f"vision_model.encoder.layers.{i}." in name) for i in range(4)]
    assert info.vision.encode_macs_per_token == patch + sum(blocks)
    assert info.vision.shallow_macs_per_token == patch + sum(blocks[:2])
    assert info.vision.project_macs == 16 * size["model.connector.modality_projection.proj"]
    assert info.text.macs_per_token == sum(n for name, n in size.items() if "text_model.layers" in name) + size[HEAD]
    attention = 4 * 10 * 64 * 2 * 36  # blocks, queries, keys, two products of the width
    assert info.vision.encoder_macs(10) == 10 * (patch + sum(blocks)) + attention + info.vision.project_macs
    assert info.vision.encoder_macs(0) == 0


def test_report_and_settings_reach_the_bundle(tmp_path: Path):
    path = write_bundle(tmp_path / "b", random_weights(), report={"layers": [1]}, shallow_layers=1)
    bundle = Bundle.load(path)
    assert bundle.report() == {"layers": [1]} and bundle.vision.shallow_layers == 1
    assert json.loads((path / "bundle.json").read_text())["files"].keys() == bundle.info.files.keys()


def test_weight_formats_can_be_mixed_within_a_block(tmp_path: Path, engine: str):
    """A float matrix beside a ternary one; the residual stream does not care."""
    weights = random_weights()
    name = "model.text_model.layers.1.self_attn.o_proj"
    codes = np.sign(weights.linears[name].codes).astype(np.int8)
    scale = np.full(len(codes), 0.1, np.float32)
    ternary = LinearWeights(WeightFormat.TERNARY, codes, scale)
    bundle = Bundle.load(write_bundle(tmp_path / "b", weights.with_linears({name: ternary}), "mixed"))
    decoder = TextDecoder(bundle, engine=engine)
    logits = decoder.run("prefill", decoder.tokenizer.prompt(), 0, np.zeros((16, 42), np.float32))
    assert np.isfinite(logits).all()
