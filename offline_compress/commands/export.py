# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress export``: a Hugging Face folder as a bundle, its weights left as they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from custom_ops.spec import CacheFormat
from edge_vlm.commands.numbers import count
from edge_vlm.runtime.bundle import Bundle
from offline_compress.export.bundle_writer import ExportOptions, export_bundle
from offline_compress.export.prompt import LONGEST_CAPTION, QUESTION
from offline_compress.export.weights import ModelWeights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="HF_FOLDER", help="config.json, *.safetensors, tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write; replaces a bundle")
    parser.add_argument("--name", help="name of the model (default: the folder's)")
    parser.add_argument("--question", default=QUESTION, help="the question that every caption answers")
    parser.add_argument("--shallow-layers", type=count, help="vision blocks of the shallow branch (default: half)")
    parser.add_argument("--context", type=count, help="positions of the KV cache (default: the model's, at most 1024)")
    formats = [name.lower() for name in CacheFormat.__members__]
    parser.add_argument("--cache", choices=formats, help="how K and V are kept (default: float32)")
    parser.add_argument(
        "--max-new-tokens", type=count, default=LONGEST_CAPTION, help="longest caption (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from offline_compress.models.chat_prompt import folder_prompt
    from offline_compress.models.loading import read_image_settings

    weights = ModelWeights.from_hf_folder(args.folder)
    image = read_image_settings(args.folder, weights.config)
    options = ExportOptions(
        variant="original",
        name=args.name or args.folder.resolve().name,
        shallow_layers=args.shallow_layers,
        context_length=args.context,
        max_new_tokens=args.max_new_tokens,
        cache_format=None if args.cache is None else CacheFormat[args.cache.upper()],
        image_mean=image.mean,
        image_std=image.std,
        report={"variant": "original", "source": args.folder.resolve().name, "layers": []},
    )
    prompt = folder_prompt(args.folder, args.question)
    path = export_bundle(weights, args.folder / "tokenizer.json", args.out, options, prompt)
    info = Bundle.load(path, verify=False).info
    print(f"{path}: {info.name} ({info.variant}), {info.weight_bytes / 1e6:.1f} MB of weights")
    return 0
