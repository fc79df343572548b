# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of random weights in the exact shapes of a model, for measuring time and memory where no weights are."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np

from edge_vlm.files import whole_folder, write_json
from offline_compress.export.checkpoint import INDEX_FILE
from offline_compress.export.module_names import is_tied
from offline_compress.models.families import family_of

SHARD_BYTES = 1 << 29
SMOLVLM_2B = {  # what differs from 256M in the published SmolVLM-Instruct
    "scale_factor": 3,
    "image_token_id": 49153,
    "text_config": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 64, "vocab_size": 49155, "rope_theta": 273768.0,
        "max_position_embeddings": 16384,
    },
    "vision_config": {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 384, "patch_size": 14,
    },
}  # fmt: skip


def with_sizes(config: dict, sizes: dict) -> dict:
    """The configuration with these entries, section by section."""
    merged = {key: {**config[key], **value} if isinstance(value, dict) else value for key, value in sizes.items()}
    return {**config, **merged}


def write_random_checkpoint(config: dict, folder: Path, seed: int = 0) -> Path:
    """bfloat16 shards with an index and config.json, written tensor by tensor; gains near 1. Replaces the folder."""
    tied = is_tied(config, {"lm_head.weight": None})
    shapes = family_of(config).parameter_shapes(config, tied)
    with whole_folder(folder) as target:
        write_json(target / "config.json", config)
        index = {}
        for number, names in enumerate(shards(shapes)):
            file = f"model-{number + 1:05d}.safetensors"
            write_shard(target / file, {name: shapes[name] for name in names}, np.random.default_rng([seed, number]))
            index |= dict.fromkeys(names, file)
        total = 2 * sum(prod(shape) for shape in shapes.values())
        write_json(target / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": index})
    return folder


def shards(shapes: dict[str, tuple[int, ...]]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if size and size + 2 * prod(shape) > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += 2 * prod(shape)
    return groups


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    header, position = {}, 0
    for name, shape in shapes.items():
        span = [position, position + 2 * prod(shape)]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": span}
        position = span[1]
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            gain = "norm" in name and name.endswith("weight")
            spread = 0.1 if len(shape) == 1 else prod(shape[1:]) ** -0.5
            values = gain + np.float32(spread) * rng.standard_normal(shape, np.float32)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
