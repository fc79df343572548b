# SPDX-License-Identifier: Apache-2.0
"""A random SmolVLM with odd widths, its tokenizer and its bundle: small enough to run in NumPy, made without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from offline_compress.export.bundle_writer import ExportOptions, export_bundle
from offline_compress.export.model_shape import TextShape, VisionShape, read_text_shape, read_vision_shape
from offline_compress.export.module_names import TEXT, VISION
from offline_compress.export.prompt import Prompt
from offline_compress.export.weights import ModelWeights

SPECIAL = ("<pad>", "<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>")
WORDS = ["User", ":", "Describe", "the", "scene", ".", "Assistant", "a", "red", "blue", "cube", "sphere", "on"]
WORDS += ["table", "gripper", "left", "right", "of"]
WORDS += [f"word{index}" for index in range(75 - len(SPECIAL) - len(WORDS))]  # one for every row of the head
IMAGE_SIZE = 32  # with patches of 4: 64 patches, 16 image tokens
CONFIG = {
    "model_type": "smolvlm",
    "scale_factor": 2,
    "image_token_id": SPECIAL.index("<image>"),
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "vision_config": {
        "hidden_size": 36,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 70,
        "image_size": IMAGE_SIZE,
        "patch_size": 4,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 42,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "intermediate_size": 50,
        "vocab_size": 75,
        "max_position_embeddings": 96,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "hidden_act": "silu",
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}


def random_tensors(seed: int = 0, config: dict = CONFIG) -> dict[str, np.ndarray]:
    """Parameters by Hugging Face name: gains near 1, so that every part of the model shows in the logits."""
    generator = np.random.default_rng(seed)
    shapes = parameter_shapes(read_vision_shape(config), read_text_shape(config))
    tensors = {}
    for name, shape in shapes.items():
        is_norm_weight = "norm" in name and name.endswith("weight")
        spread = 0.2 if len(shape) == 1 else 1.0 / np.sqrt(np.prod(shape[1:]))
        values = is_norm_weight + spread * generator.standard_normal(shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def parameter_shapes(vision: VisionShape, text: TextShape) -> dict[str, tuple[int, ...]]:
    width, inner = vision.hidden_size, vision.intermediate_size
    embeddings = f"{VISION}.embeddings"
    shapes: dict[str, tuple[int, ...]] = {
        f"{embeddings}.patch_embedding.weight": (width, 3, vision.patch_size, vision.patch_size),
        f"{embeddings}.patch_embedding.bias": (width,),
        f"{embeddings}.position_embedding.weight": (vision.tokens, width),
        f"{VISION}.post_layernorm.weight": (width,),
        f"{VISION}.post_layernorm.bias": (width,),
        "model.connector.modality_projection.proj.weight": (text.hidden_size, width * vision.scale_factor**2),
        f"{TEXT}.embed_tokens.weight": (text.vocab_size, text.hidden_size),
        f"{TEXT}.norm.weight": (text.hidden_size,),
    }
    matrices = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    matrices |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(vision.layers):
        block = f"{VISION}.encoder.layers.{layer}"
        shapes |= {f"{block}.{norm}.{part}": (width,) for norm in ("layer_norm1", "layer_norm2") for part in PARTS}
        shapes |= {f"{block}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{block}.{name}.bias": shape[:1] for name, shape in matrices.items()}
    for layer in range(text.layers):
        block = f"{TEXT}.layers.{layer}"
        shapes |= {f"{block}.{norm}_layernorm.weight": (text.hidden_size,) for norm in ("input", "post_attention")}
        shapes |= {f"{block}.{name}.weight": shape for name, shape in text_matrices(text).items()}
    return shapes


PARTS = ("weight", "bias")


def text_matrices(text: TextShape) -> dict[str, tuple[int, int]]:
    width, queries, keys = text.hidden_size, text.query_heads * text.head_dim, text.kv_heads * text.head_dim
    return {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (text.intermediate_size, width),
        "mlp.up_proj": (text.intermediate_size, width),
        "mlp.down_proj": (width, text.intermediate_size),
    }


def random_weights(seed: int = 0) -> ModelWeights:
    return ModelWeights.from_tensors(CONFIG, random_tensors(seed), "a random model")


def write_tokenizer(path: Path) -> Path:
    """A word-level tokenizer.json; words outside the list become ``of``."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="of"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(path))
    return path


def write_bundle(folder: Path, weights: ModelWeights, variant: str = "original", **options) -> Path:
    """Export to ``folder``; the tokenizer is written beside it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder.parent / "tiny_tokenizer.json")
    options = ExportOptions(variant, "tiny", max_new_tokens=12, **options)
    return export_bundle(weights, tokenizer, folder, options, Prompt.smolvlm(16))


def write_hf_folder(folder: Path, seed: int = 0) -> Path:
    """As save_pretrained leaves it: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(folder / "model.safetensors", random_tensors(seed))
    write_tokenizer(folder / "tokenizer.json")
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
    """float32 arrays as F32, F16 or (by dropping the lower half) BF16."""
    header, blobs, position = {}, [], 0
    for name, array in tensors.items():
        if dtype == "BF16":
            stored = (array.view(np.uint32) >> 16).astype(np.uint16)
        else:
            stored = array.astype(np.float16 if dtype == "F16" else np.float32)
        blobs.append(stored.tobytes())
        span = [position, position + len(blobs[-1])]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": span}
        position = span[1]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def make_image(seed: int) -> np.ndarray:
    """uint8 (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
