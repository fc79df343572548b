# SPDX-License-Identifier: Apache-2.0
"""What `make bench-model` measures: random weights in a model's shapes as checkpoint, ternary bundle and GGUF files.

The quantised bundle is compared with its PyTorch twin where it is made, and both figures are kept beside it.
``python -m bench.smolvlm_files CONFIG_FOLDER WORK_FOLDER``
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from custom_ops.packing import Groups
from custom_ops.spec import CacheFormat, WeightFormat
from edge_vlm.files import write_json
from edge_vlm.runtime import Bundle, TextDecoder, VisionEncoder
from edge_vlm.runtime.interpreter import LITERT, NUMPY
from offline_compress.export.bundle_writer import ExportOptions, export_bundle
from offline_compress.export.checkpoint import read_config
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.module_names import HEAD, linear_names
from offline_compress.export.prompt import Prompt
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.models.random_checkpoint import write_random_checkpoint
from offline_compress.quantize.integer import integer
from offline_compress.quantize.plan import default_plan
from offline_compress.quantize.replace import float_weights, quantise_model, to_model_weights
from offline_compress.train.attention import use_int8_cache_attention, use_plain_attention

GREEDY_TOKENS = 64
AGREEMENT = "agreements.json"


def make_all(config_folder: Path, work: Path) -> None:
    """Whatever is missing in ``work``: checkpoint/, ternary/ (head in int8), int4-head/, agreements.json."""
    checkpoint, tokenizer = work / "checkpoint", config_folder / "tokenizer.json"
    if not (checkpoint / "config.json").is_file():
        write_random_checkpoint(read_config(config_folder), checkpoint)
        shutil.copyfile(tokenizer, checkpoint / "tokenizer.json")
    if (work / AGREEMENT).is_file():
        return
    config, model = read_config(checkpoint), load(checkpoint)
    use_plain_attention(model)
    weights = float_weights(model)
    exact = export(weights, work / "original", "original", tokenizer)
    found = {"original": agreement(model, exact)}
    shutil.rmtree(exact)  # a gigabyte
    plan = default_plan(config, "ternary", weights.tied)
    quantise_model(model, plan.resolve(linear_names(config, weights.tied)))
    ternary = to_model_weights(model, config)
    bundle = export(ternary, work / "ternary", "ternary", tokenizer)
    head = LinearWeights(WeightFormat.INT4, *int4_head(weights.linears[HEAD].codes))
    export(replace(ternary, linears={**ternary.linears, HEAD: head}), work / "int4-head", "ternary", tokenizer)
    use_int8_cache_attention(model)
    found["ternary"] = agreement(model.eval(), bundle)
    found["engines"] = agreement_of_engines(bundle)
    write_json(work / AGREEMENT, found)


def int4_head(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, None, Groups]:
    """Codes, scale, no bias, groups of 32: rounded, float32 (vocabulary, D)."""
    found = integer(weights, "int4", 4, 32, symmetric=True)
    return found.codes, found.scale, None, found.groups


def load(checkpoint: Path) -> nn.Module:
    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()


def export(weights: ModelWeights, out: Path, variant: str, tokenizer: Path) -> Path:
    prompt = Prompt.smolvlm(read_vision_shape(weights.config).image_tokens)
    cache = CacheFormat.FLOAT32 if variant == "original" else CacheFormat.INT8
    bundle = export_bundle(weights, tokenizer, out, ExportOptions(variant, "random", cache_format=cache), prompt)
    for path in bundle.iterdir():
        forget_pages(path)
    return bundle


def forget_pages(path: Path) -> None:
    """What is written may lie in the page cache in huge pages, which count as resident as a whole where a file that was
    read would not: let it be read again."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@torch.inference_mode()
def agreement(model: nn.Module, path: Path) -> dict[str, float]:
    """Relative errors of image features and of the logits of prompt and greedy caption, and how many of the caption's
    tokens are the twin's first choice, too."""
    bundle = Bundle.load(path, verify=False)
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    image = np.random.default_rng(0).integers(0, 256, (bundle.image.size, bundle.image.size, 3)).astype(np.uint8)
    patches = encoder.preprocess(image)
    features = encoder.encode(patches, np.arange(bundle.vision.tokens))
    prompt = decoder.tokenizer.prompt()
    made = decoder.generate(features, max_new_tokens=GREEDY_TOKENS).token_ids
    ids = np.concatenate([prompt, np.array(made[:-1], np.int32)])
    logits = decoder.run("score", ids, 0, features)
    pixels = torch.from_numpy(as_picture(patches, bundle))[None, None]
    found = model.model.get_image_features(pixels)
    expected_features = torch.cat(list(found.pooler_output)).numpy().reshape(features.shape)
    expected = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None], pixel_values=pixels).logits[0].numpy()
    same = np.array(made) == expected[len(prompt) - 1 :].argmax(-1)
    return {
        "features_error": relative(features, expected_features),
        "logits_error": relative(logits, expected),
        "equal_tokens": int(same.sum()),
        "tokens": len(made),
    }


def agreement_of_engines(path: Path) -> dict[str, float]:
    """Relative errors between the operator library and the NumPy executor on the same files: what the order of float
    sums alone makes of activations next to a half, which round either way."""
    bundle = Bundle.load(path, verify=False)
    image = np.random.default_rng(0).integers(0, 256, (bundle.image.size, bundle.image.size, 3)).astype(np.uint8)
    features, logits = {}, {}
    for engine in (LITERT, NUMPY):
        encoder, decoder = VisionEncoder(bundle, engine=engine), TextDecoder(bundle, engine=engine)
        features[engine] = encoder.encode(encoder.preprocess(image), np.arange(bundle.vision.tokens))
        logits[engine] = decoder.run("score", decoder.tokenizer.prompt(), 0, features[LITERT])
    return {
        "features_error": relative(features[NUMPY], features[LITERT]),
        "logits_error": relative(logits[NUMPY], logits[LITERT]),
    }


def as_picture(patches: np.ndarray, bundle: Bundle) -> np.ndarray:
    """Patches (N, 3 P P) put together: (3, size, size)."""
    grid, patch, size = bundle.vision.grid, bundle.image.patch_size, bundle.image.size
    return np.ascontiguousarray(patches.reshape(grid, grid, 3, patch, patch).transpose(2, 0, 3, 1, 4)).reshape(
        3, size, size
    )


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), Path(sys.argv[2]))
