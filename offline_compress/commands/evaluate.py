# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress evaluate``: captions of a user's images against their references, through .tflite and PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_vlm.commands.numbers import count

COLUMNS = ("token_perplexity", "word_perplexity")
METRICS = ("cider", "bleu_4", "meteor", "rouge_l")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="bundles, or Hugging Face folders")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH",
                        help="folder of images and captions, COCO json or folder, Flickr8k layout")  # fmt: skip
    parser.add_argument("--split", default="test", help="where the data has splits (default: %(default)s)")
    parser.add_argument("--limit", type=count, metavar="N", help="the first N images only")
    parser.add_argument("--beams", type=count, default=1, help="of beam search in PyTorch (default: 1, greedy)")
    parser.add_argument("--plain-captions", action="store_true",
                        help="references as lower-case words, as train-photos teaches them")  # fmt: skip
    parser.add_argument("--bf16", action="store_true", help="PyTorch models in bfloat16: faster on CPUs with AMX")
    parser.add_argument("--threads", type=count, help="CPU threads of PyTorch (default: all cores)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write figures and captions there")


def run(args: argparse.Namespace) -> int:
    import torch

    from edge_vlm.files import make_folder, write_json
    from offline_compress.evaluate.caption_metrics import METEOR_NOTE
    from offline_compress.evaluate.pair_evaluation import evaluate_model, evaluate_tflite, pair_samples
    from offline_compress.pairs.captioned_images import skipped_text
    from offline_compress.pairs.opening import open_pairs
    from offline_compress.train.progress import counted, open_console

    console = open_console()
    if args.threads:
        torch.set_num_threads(args.threads)
    pairs = open_pairs(args.data, args.split)
    with counted("images looked at", min(len(pairs), args.limit or len(pairs)), console) as looked:
        samples, skipped = pair_samples(pairs.plain() if args.plain_captions else pairs, args.limit, looked)
    if skipped:
        console.print(skipped_text(skipped))
    results = []
    for path in args.paths:
        with counted(f"{path.name}: images", len(samples), console) as progress:
            if (path / "bundle.json").is_file():
                results.append(evaluate_tflite(path, samples, progress))
            else:
                results.append(evaluate_model(path, samples, args.beams, progress, bf16=args.bf16))
    console.print(table(results))
    if any(result.metrics.get("meteor") is None for result in results):
        console.print(results[0].metrics.get("meteor_note", METEOR_NOTE), highlight=False)
    if args.out:
        make_folder(args.out.parent)
        write_json(args.out, {"skipped": skipped, "results": [result.to_json() for result in results]})
    return 0


def table(results):
    from rich.table import Table

    shown = Table("model", "through", title=f"{results[0].samples} images", title_justify="left")
    for name in ("token perplexity", "word perplexity", "CIDEr", "BLEU-4", "METEOR", "ROUGE-L"):
        shown.add_column(name, justify="right")
    for result in results:
        values = [getattr(result, name) for name in COLUMNS] + [result.metrics.get(name) for name in METRICS]
        decoding = f", {result.beams} beams" if result.beams > 1 else ""
        shown.add_row(Path(result.path).name, result.through + decoding,
                      *("-" if value is None else f"{value:.3f}" for value in values))  # fmt: skip
    return shown
