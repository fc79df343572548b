# SPDX-License-Identifier: Apache-2.0
"""Writes a bundle: two graphs, the tokenizer, a report, and bundle.json that describes and seals them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from custom_ops.spec import CacheFormat
from edge_vlm import __version__
from edge_vlm.files import check_replaceable, sha256_of, whole_folder, write_bytes, write_json
from edge_vlm.runtime.bundle import (
    BUNDLE_FILES,
    BUNDLE_JSON,
    FORMAT,
    REPORT_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    VERSION,
    VISION_FILE,
    VOCABULARY_FILE,
    Bundle,
)
from edge_vlm.runtime.tokenizer import CaptionTokenizer
from offline_compress.errors import ExportError
from offline_compress.export.checkpoint import read_file
from offline_compress.export.graph_builder import ModelBuilder
from offline_compress.export.macs import text_macs_per_token, vision_macs
from offline_compress.export.model_shape import TextShape, VisionShape, read_text_shape, read_vision_shape
from offline_compress.export.prompt import LONGEST_CAPTION, Prompt, SpecialTokens, read_special_tokens
from offline_compress.export.text_graph import add_text_signatures
from offline_compress.export.vision_graph import add_vision_signatures
from offline_compress.export.vocabulary import spell_out
from offline_compress.export.weights import ModelWeights

DEFAULT_CONTEXT = 1024  # positions; the KV cache of a long-context model would fill a small board
SMALL_CACHES = 16_000_000  # bytes of K and V in float32 that every board has


@dataclass(frozen=True)
class ExportOptions:
    """``shallow_layers`` None: half of the vision blocks. ``context_length`` None: the model's, at most 1024.

    ``cache_format``: how the graphs keep K and V between calls; None: float32 for ``original`` and where they take
    at most 16 MB of it, else int8. ``dense_ternary``: ternary matrices at 1.6 bits a weight instead of 2.
    """

    variant: str
    name: str
    shallow_layers: int | None = None
    context_length: int | None = None
    max_new_tokens: int = LONGEST_CAPTION
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    cache_format: CacheFormat | None = None
    dense_ternary: bool = False
    report: dict = field(default_factory=dict)


def export_bundle(
    weights: ModelWeights, tokenizer_json: Path, out_dir: Path, options: ExportOptions, prompt: Prompt
) -> Path:
    """Write the bundle folder ``out_dir`` whole and return it; a folder of that name is replaced.

    Raises ExportError where the model does not fit the templates, OutputError where it cannot be written.
    """
    vision, text = read_vision_shape(weights.config), read_text_shape(weights.config)
    tokenizer = read_file(Path(tokenizer_json))
    tokens = read_special_tokens(weights.config, tokenizer)
    check_bundle_replaceable(Path(out_dir))
    with whole_folder(Path(out_dir)) as folder:
        write_bytes(folder / TOKENIZER_FILE, tokenizer)
        vocabulary = spell_out(tokenizer, prompt)
        if vocabulary is not None:
            write_bytes(folder / VOCABULARY_FILE, vocabulary.to_bytes())
        write_graphs(folder, weights, vision, text, options)
        write_json(folder / REPORT_FILE, options.report)
        description = describe(folder, weights, vision, text, options, prompt, tokens)
        write_json(folder / BUNDLE_JSON, description)
        check_room(Bundle.load(folder), options)  # what we just wrote must be what the board accepts
    return Path(out_dir)


def check_room(bundle: Bundle, options: ExportOptions) -> None:
    """Raises ExportError where the context that was asked for does not hold the prompt and the longest caption."""
    if options.context_length is None:
        return
    context, longest = options.context_length, options.max_new_tokens
    info = replace(bundle.info, text=replace(bundle.info.text, context_length=1 << 30))
    needed = len(CaptionTokenizer(replace(bundle, info=info)).prompt()) + longest
    if context < needed:
        raise ExportError(
            f"context_length {context}; the prompt and a caption of {longest} tokens take {needed}",
            f"choose {needed} or more, or shorter captions",
        )


def check_bundle_replaceable(out_dir: Path) -> None:
    """Raises OutputError for a folder that is no bundle."""
    check_replaceable(out_dir, BUNDLE_JSON, "a bundle")


def write_graphs(
    folder: Path, weights: ModelWeights, vision: VisionShape, text: TextShape, options: ExportOptions
) -> None:
    for name, graphs in graph_builders(weights, vision, text, options):
        graphs.save(folder / name)


def graph_bytes(weights: ModelWeights, options: ExportOptions) -> int:
    """Size of both graphs as they would be written; values of matrices do not matter."""
    shapes = read_vision_shape(weights.config), read_text_shape(weights.config)
    return sum(graphs.writer.lay_out()[2] for _, graphs in graph_builders(weights, *shapes, options))


def graph_builders(
    weights: ModelWeights, vision: VisionShape, text: TextShape, options: ExportOptions
) -> Iterator[tuple[str, ModelBuilder]]:
    """Each graph by its file's name."""
    cache, length = choose_cache_format(vision, text, options), context_length(text, options)
    graphs = ModelBuilder(f"{options.name} {options.variant}: vision", options.dense_ternary)
    add_vision_signatures(graphs, weights, vision, shallow_layers(vision, options), cache)
    yield VISION_FILE, graphs
    graphs = ModelBuilder(f"{options.name} {options.variant}: text", options.dense_ternary)
    add_text_signatures(graphs, weights, text, length, vision.image_tokens, cache)
    yield TEXT_FILE, graphs


def describe(
    folder: Path,
    weights: ModelWeights,
    vision: VisionShape,
    text: TextShape,
    options: ExportOptions,
    prompt: Prompt,
    tokens: SpecialTokens,
) -> dict:
    """The JSON object of bundle.json; `edge_vlm.runtime.bundle` reads it."""
    names = [name for name in (*BUNDLE_FILES, VOCABULARY_FILE) if name != BUNDLE_JSON and (folder / name).exists()]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": options.name,
        "variant": options.variant,
        "files": {
            name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in names
        },
        "image": {
            "size": vision.image_size,
            "patch_size": vision.patch_size,
            "mean": list(options.image_mean),
            "std": list(options.image_std),
        },
        "vision": {
            "tokens": vision.tokens,
            "grid": vision.grid,
            "hidden_size": vision.hidden_size,
            "layers": vision.layers,
            "shallow_layers": shallow_layers(vision, options),
            "image_tokens": vision.image_tokens,
            **vision_macs(vision, text, shallow_layers(vision, options)),
        },
        "text": {
            "hidden_size": text.hidden_size,
            "layers": text.layers,
            "vocab_size": text.vocab_size,
            "context_length": context_length(text, options),
            "image_token_id": text.image_token_id,
            "bos_token_id": tokens.bos,
            "eos_token_id": tokens.eos,
            "pad_token_id": tokens.pad,
            "macs_per_token": text_macs_per_token(text),
        },
        "prompt": prompt.to_json(),
        "generation": {"max_new_tokens": options.max_new_tokens},
        "sttf": None,
        "router": None,
        "created_by": f"edge-vlm-compress {__version__}",
    }


def shallow_layers(vision: VisionShape, options: ExportOptions) -> int:
    wanted = options.shallow_layers if options.shallow_layers is not None else max(1, vision.layers // 2)
    if not 1 <= wanted <= vision.layers:
        raise ExportError(f"shallow_layers {wanted} of {vision.layers} vision blocks", "choose 1 to their number")
    return wanted


def choose_cache_format(vision: VisionShape, text: TextShape, options: ExportOptions) -> CacheFormat:
    if options.cache_format is not None:
        return options.cache_format
    vision_values = vision.layers * vision.tokens * vision.hidden_size
    text_values = text.layers * context_length(text, options) * text.kv_heads * text.head_dim
    small = 2 * np.dtype(np.float32).itemsize * (vision_values + text_values) <= SMALL_CACHES
    return CacheFormat.FLOAT32 if small or options.variant == "original" else CacheFormat.INT8


def context_length(text: TextShape, options: ExportOptions) -> int:
    wanted = options.context_length if options.context_length is not None else min(text.max_positions, DEFAULT_CONTEXT)
    if not 1 <= wanted <= text.max_positions:
        raise ExportError(f"context_length {wanted}; the model was trained for {text.max_positions}", "choose fewer")
    return wanted
