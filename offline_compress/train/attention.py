# SPDX-License-Identifier: Apache-2.0
"""Attention as two plain matrix products: on a CPU its backward pass is twice as fast as the fused kernel's."""

from __future__ import annotations

import torch
from transformers import AttentionInterface

from offline_compress.quantize.fake_quant import dequantised_rows

NAME, INT8_NAME = "plain_matmul", "int8_cache"
_MASKED = -1e4  # finite in bfloat16 too


def plain_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """query (B, H, T, d), key and value (B, H_kv, S, d) -> (B, T, H, d). Causal without a mask where the module is."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        mask = attention_mask[..., : key.shape[2]]
        scores = scores.masked_fill(~mask, _MASKED) if mask.dtype == torch.bool else scores + mask
    elif query.shape[2] > 1 and getattr(module, "is_causal", False):
        first = key.shape[2] - query.shape[2]  # queries are the last rows where a cache holds earlier keys
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(first + 1)
        scores = scores.masked_fill(later, _MASKED)
    weights = torch.softmax(scores, -1).to(value.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def use_plain_attention(model) -> None:
    """Register it and switch the whole model to it. Padding must stand at the end: there is no padding mask."""
    AttentionInterface.register(NAME, plain_attention)
    model.set_attn_implementation(NAME)


def int8_cache_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """As `plain_attention` with q, k, v rounded to int8 by row and head: what a graph with int8 caches computes.

    The graph also rounds the softmax's weights, to 1/16256 of the largest; that is left out here.
    """
    rounded = (dequantised_rows(part) for part in (query * scaling, key, value))
    return plain_attention(module, *rounded, attention_mask, 1.0)


def use_int8_cache_attention(model) -> None:
    """For comparison with a bundle of int8 caches, without gradients. Padding as in `use_plain_attention`."""
    AttentionInterface.register(INT8_NAME, int8_cache_attention)
    model.set_attn_implementation(INT8_NAME)
