# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's text model as GGUF, for llama.cpp. ``python -m bench.peers.gguf_file CHECKPOINT TYPE OUT``

Types that need rows of a multiple of 256 (TQ2_0) give way to Q4_0 where a matrix has others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

from offline_compress.export.checkpoint import Checkpoint, read_config
from offline_compress.export.model_shape import TextShape, read_text_shape

TEXT = "model.text_model."
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def gguf_name(name: str) -> str | None:
    """None for what is no part of the text model, or tied."""
    if name == f"{TEXT}embed_tokens.weight":
        return "token_embd.weight"
    if name == f"{TEXT}norm.weight":
        return "output_norm.weight"
    if not name.startswith(f"{TEXT}layers."):
        return None
    layer, part = name.removeprefix(f"{TEXT}layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.weight"


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbours where Llama's checkpoints rotate halves."""
    return weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def stored(name: str, weights: np.ndarray, kind: str, shape: TextShape) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    if weights.ndim == 1:
        return weights, gguf.GGMLQuantizationType.F32
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        weights = permuted(weights, shape.query_heads if "q_proj" in name else shape.kv_heads)
    whole = weights.shape[1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0] == 0
    chosen = gguf.GGMLQuantizationType[kind if whole else "Q4_0"]
    chosen = gguf.GGMLQuantizationType.Q8_0 if "embed_tokens" in name and kind != "Q4_0" else chosen
    return gguf.quants.quantize(np.ascontiguousarray(weights), chosen), chosen


def write(folder: Path, kind: str, out: Path) -> None:
    shape = read_text_shape(read_config(folder))
    writer = gguf.GGUFWriter(str(out), "llama")
    writer.add_context_length(shape.max_positions)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.query_heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocab_size)
    add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), shape.vocab_size)
    for name, weights in Checkpoint.open(folder).items():
        if (target := gguf_name(name)) is not None:
            data, chosen = stored(name, weights, kind, shape)
            writer.add_tensor(target, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict, vocabulary: int) -> None:
    tokens = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    tokens |= {entry["id"]: entry["content"] for entry in tokenizer["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([tokens.get(index, f"<unused{index}>") for index in range(vocabulary)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
