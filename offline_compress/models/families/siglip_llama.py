# SPDX-License-Identifier: Apache-2.0
"""A SigLIP vision transformer, a pixel-shuffle connector and a Llama text model: what the SmolVLM family is made of.

PyTorch and transformers are imported by the methods that need them: export and planning work without.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_vlm.errors import InputError
from offline_compress.errors import CheckpointError
from offline_compress.export.checkpoint import COPY_AGAIN, Checkpoint
from offline_compress.export.model_shape import TextShape, VisionShape, read_text_shape, read_vision_shape
from offline_compress.export.module_names import CONNECTOR, EMBED_TOKENS, HEAD, PATCH_EMBEDDING, TEXT, VISION, is_tied

VISION_BLOCKS, TEXT_BLOCKS = f"{VISION}.encoder.layers", f"{TEXT}.layers"
IMAGE_EMBEDDING = (f"{VISION}.embeddings",)
IMAGE_END = (f"{VISION}.post_layernorm", "model.connector")


@dataclass(frozen=True)
class SiglipLlama:
    """``model_type`` of config.json and the names of transformers' classes for it."""

    model_type: str
    config_class: str
    model_class: str

    def skeleton(self, config: dict):
        """transformers' model without storage: every parameter is on the meta device, no code of the folder is run."""
        import torch
        import transformers

        with torch.device("meta"):
            model = getattr(transformers, self.model_class)(getattr(transformers, self.config_class).from_dict(config))
        text = model.model.text_model
        text.rotary_emb = type(text.rotary_emb)(text.config)  # its frequencies are no parameters: computed here
        return model.eval()

    def shapes(self, config: dict) -> tuple[VisionShape, TextShape]:
        return read_vision_shape(config), read_text_shape(config)

    def halves(self, config: dict) -> tuple[tuple[str, int], ...]:
        """Module of the blocks and their number, in the order in which data flows."""
        return (
            (VISION_BLOCKS, read_vision_shape(config).layers),
            (TEXT_BLOCKS, read_text_shape(config).layers),
        )

    def image_hidden(self, model, pixel_values):
        """pixel_values (B, 1, 3, H, W) -> what the first vision block takes (B, patches, D). Needs `IMAGE_EMBEDDING`.

        Patch i takes position i, as in the exported graphs.
        """
        embeddings = model.model.vision_model.embeddings
        pixels = pixel_values.flatten(0, 1).to(embeddings.patch_embedding.weight.dtype)
        return embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2) + embeddings.position_embedding.weight

    def image_features(self, model, hidden):
        """What the last vision block gives (B, patches, D) -> (B, image tokens, D_text). Needs `IMAGE_END`."""
        return model.model.connector(model.model.vision_model.post_layernorm(hidden))

    def text_hidden(self, model, input_ids, features):
        """input_ids (B, T), features -> what the first text block takes (B, T, D). Needs the token table."""
        hidden = model.model.text_model.embed_tokens(input_ids)
        places = input_ids == model.config.image_token_id
        if int(places.sum()) != features.shape[0] * features.shape[1]:
            raise InputError(
                f"{int(places.sum())} image tokens in {len(input_ids)} prompts, one image gives {features.shape[1]}",
                "make the prompts with this model's own processor, one unsplit image each",
            )
        return hidden.masked_scatter(places[..., None].expand_as(hidden), features.to(hidden.dtype))

    def block_arguments(self, model, blocks: str, hidden) -> dict:
        """What a block takes beside its hidden states (B, T, D); padding stands at the end, so no mask is needed."""
        if blocks == VISION_BLOCKS:
            return {"attention_mask": None}
        import torch

        positions = torch.arange(hidden.shape[1])[None]
        rotary = model.model.text_model.rotary_emb(hidden, position_ids=positions)
        return {"attention_mask": None, "position_ids": positions, "position_embeddings": rotary}

    def head_inputs(self, model, hidden):
        """What the last text block gives (..., D) -> what the head takes. Needs the text model's norm."""
        return model.model.text_model.norm(hidden)

    def check(self, checkpoint: Checkpoint) -> None:
        """Every parameter is there, in the shape that config.json says. Raises CheckpointError naming the first."""
        tied = is_tied(checkpoint.config, checkpoint)
        wanted = self.parameter_shapes(checkpoint.config, tied)
        if tied:  # saved under one name or the other
            name = next((n for n in (HEAD, EMBED_TOKENS) if f"{n}.weight" in checkpoint), HEAD)
            wanted[f"{name}.weight"] = wanted.pop(f"{HEAD}.weight")
        for name, shape in wanted.items():
            if name not in checkpoint:
                raise CheckpointError(f"{checkpoint.folder}: no tensor {name}", COPY_AGAIN)
            if checkpoint.shape(name) != shape:
                raise CheckpointError(
                    f"{checkpoint.tensors[name].path}: {name} has shape {checkpoint.shape(name)}, config.json says"
                    f" {shape}",
                    "take config.json and the weights from the same model",
                )

    def parameter_shapes(self, config: dict, tied: bool) -> dict[str, tuple[int, ...]]:
        """Shape by parameter name. Tied: the one table of tokens is ``lm_head.weight``."""
        vision, text = read_vision_shape(config), read_text_shape(config)
        shapes: dict[str, tuple[int, ...]] = {
            f"{PATCH_EMBEDDING}.weight": (vision.hidden_size, 3, vision.patch_size, vision.patch_size),
            f"{PATCH_EMBEDDING}.bias": (vision.hidden_size,),
            f"{VISION}.embeddings.position_embedding.weight": (vision.tokens, vision.hidden_size),
            **norm(f"{VISION}.post_layernorm", vision.hidden_size),
            f"{CONNECTOR}.weight": (text.hidden_size, vision.hidden_size * vision.scale_factor**2),
            f"{TEXT}.norm.weight": (text.hidden_size,),
        }
        for name in (HEAD,) if tied else (EMBED_TOKENS, HEAD):
            shapes[f"{name}.weight"] = (text.vocab_size, text.hidden_size)
        for layer in range(vision.layers):
            shapes |= vision_block(f"{VISION_BLOCKS}.{layer}", vision)
        for layer in range(text.layers):
            shapes |= text_block(f"{TEXT_BLOCKS}.{layer}", text)
        return shapes


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def vision_block(block: str, shape: VisionShape) -> dict[str, tuple[int, ...]]:
    width, inner = shape.hidden_size, shape.intermediate_size
    matrices = {f"{block}.self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    matrices |= {f"{block}.mlp.fc1": (inner, width), f"{block}.mlp.fc2": (width, inner)}
    shapes = norm(f"{block}.layer_norm1", width) | norm(f"{block}.layer_norm2", width)
    for name, size in matrices.items():
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return shapes


def text_block(block: str, shape: TextShape) -> dict[str, tuple[int, ...]]:
    width, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.query_heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rows = {"q": queries, "k": keys, "v": keys}
    shapes: dict[str, tuple[int, ...]] = {
        f"{block}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")
    }
    shapes |= {f"{block}.self_attn.{part}_proj.weight": (count, width) for part, count in rows.items()}
    shapes |= {f"{block}.self_attn.o_proj.weight": (width, queries), f"{block}.mlp.down_proj.weight": (width, inner)}
    return shapes | {f"{block}.mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
