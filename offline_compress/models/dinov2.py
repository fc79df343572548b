# SPDX-License-Identifier: Apache-2.0
"""A DINOv2 vision transformer (arXiv 2304.07193) as the start of a SmolVLM vision encoder.

Both are pre-norm transformers with learned positions, so the weights fit but for three things, which are folded in:
LayerScale into the projections it follows, the ImageNet normalisation of pixels into the patch convolution, and
positions of a 37 x 37 grid, which are interpolated. SmolVLM has no class token: it is left out, and training makes up
for what that changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.models.onnx_tensors import read_onnx_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREFIX = "backbone."


def read_dinov2(path: Path) -> dict[str, np.ndarray]:
    """Tensors named as in Hugging Face's Dinov2Model: of a folder with model.safetensors, or of an ONNX file in which
    the model is the ``backbone``. Raises InputError for anything else."""
    path = Path(path)
    if path.is_dir():
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path / "model.safetensors")
        except (OSError, ValueError) as error:
            raise InputError(f"{path / 'model.safetensors'}: {error}", "give the folder of a Dinov2Model") from error
    else:
        tensors = {
            name.removeprefix(PREFIX): value
            for name, value in read_onnx_weights(path).items()
            if name.startswith(PREFIX) or value.ndim == 3
        }
    if "embeddings.patch_embeddings.projection.weight" not in tensors:
        raise InputError(f"{path}: no DINOv2 model", "give the Hugging Face folder of one, or an ONNX file made of it")
    return tensors


def vision_state(tensors: dict[str, np.ndarray], blocks: int, grid: int) -> dict[str, torch.Tensor]:
    """State of a SmolVLM vision model with the first ``blocks`` blocks for ``grid`` x ``grid`` patches of pixels in
    [-1, 1]. Raises InputError, naming the tensor that is missing."""
    source = {name: torch.tensor(value).float() for name, value in tensors.items()}
    state: dict[str, torch.Tensor] = {}
    try:
        weight = source["embeddings.patch_embeddings.projection.weight"]
        mean, std = (torch.tensor(values)[None, :, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        shift = (weight * ((0.5 - mean) / std)).sum((1, 2, 3))
        state["embeddings.patch_embedding.weight"] = weight * (0.5 / std)
        state["embeddings.patch_embedding.bias"] = source["embeddings.patch_embeddings.projection.bias"] + shift
        state["embeddings.position_embedding.weight"] = positions(source, grid)
        for index in range(blocks):
            state |= block_state(source, f"encoder.layer.{index}", f"encoder.layers.{index}")
        for part in ("weight", "bias"):
            state[f"post_layernorm.{part}"] = source[f"layernorm.{part}"]
    except KeyError as error:
        raise InputError(
            f"DINOv2 weights without {error}", "give a whole model of at least that many blocks"
        ) from error
    return state


def block_state(source: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    names = {
        "norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
        "attention.attention.query": "self_attn.q_proj", "attention.attention.key": "self_attn.k_proj",
        "attention.attention.value": "self_attn.v_proj", "attention.output.dense": "self_attn.out_proj",
    }  # fmt: skip
    scales = {"attention.output.dense": "layer_scale1.lambda1", "mlp.fc2": "layer_scale2.lambda1"}
    state = {}
    for theirs, ours in names.items():
        weight, bias = source[f"{old}.{theirs}.weight"], source[f"{old}.{theirs}.bias"]
        if theirs in scales:
            scale = source[f"{old}.{scales[theirs]}"]
            weight, bias = weight * scale[:, None], bias * scale
        state |= {f"{new}.{ours}.weight": weight, f"{new}.{ours}.bias": bias}
    return state


def positions(source: dict[str, torch.Tensor], grid: int) -> torch.Tensor:
    """(grid * grid, hidden), bicubic; an ONNX export keeps the patches' positions apart, under a number."""
    table = source.get("embeddings.position_embeddings")
    if table is None:
        known = [value for name, value in source.items() if value.ndim == 3 and value.shape[1] > 1 and "." not in name]
        if len(known) != 1:
            raise KeyError("embeddings.position_embeddings")
        table = known[0]
    side = int((table.shape[1]) ** 0.5)
    patches = table[0, table.shape[1] - side * side :].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(patches, size=(grid, grid), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).flatten(0, 1).contiguous()
