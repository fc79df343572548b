# SPDX-License-Identifier: Apache-2.0
"""The demo model's training data for QAT: the cached scenes, told in the model's own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from edge_vlm.errors import SourceError
from offline_compress.export.checkpoint import read_config, read_json_object
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.prompt import Prompt
from offline_compress.models.chat_prompt import chat_prompt
from offline_compress.models.dataset import SHARD, open_split
from offline_compress.models.demo_model import IMAGE_SIZE
from offline_compress.models.folder_tokenizer import open_tokenizer
from offline_compress.train.caption_batches import CaptionBatches


@dataclass(frozen=True)
class SceneData:
    """Batches, and what turns captions into the model's tokens."""

    batches: CaptionBatches
    tokenizer: PreTrainedTokenizerBase
    prompt: Prompt


def scene_data(folder: Path, cache: Path, size: int, seed: int) -> SceneData:
    """Batches of ``size`` over all training scenes in ``cache`` for the model in ``folder``.

    Raises SourceError where the cache holds none, or the model takes pictures of another size.
    """
    scenes = open_split(Path(cache), "train", cached_scenes(Path(cache)))
    shape = read_vision_shape(read_config(folder))
    if shape.image_size != IMAGE_SIZE:
        what = f"{cache}: scenes of {IMAGE_SIZE} pixels; {folder} takes {shape.image_size}"
        raise SourceError(what, "give --images instead")
    tokenizer = open_tokenizer(folder)
    prompt = chat_prompt(tokenizer, shape.image_tokens)
    return SceneData(CaptionBatches(scenes, tokenizer, prompt, size, seed), tokenizer, prompt)


def cached_scenes(cache: Path) -> int:
    """How many training scenes the folder holds; only the last shard may be short."""
    shards = sorted(cache.glob("train-*.json"))
    if not shards:
        raise SourceError(f"{cache}: no rendered training scenes", "run edge-vlm-compress train-demo first")
    return (len(shards) - 1) * SHARD + len(read_json_object(shards[-1]).get("captions", []))
