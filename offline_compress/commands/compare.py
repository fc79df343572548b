# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress compare``: the paper's table, original against ternary and binary, through the .tflite graphs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from edge_vlm.commands.numbers import not_negative
from edge_vlm.files import make_folder, write_json
from offline_compress.evaluate.bundle_evaluation import BundleEvaluation, evaluate_bundle
from offline_compress.evaluate.compare import comparison_table, write_comparison
from offline_compress.evaluate.heldout import caption_scores, heldout_samples
from offline_compress.evaluate.layer_report import labels_of, layer_table, layers_of, write_layers
from offline_compress.evaluate.samples import PairSample, Sample
from offline_compress.pairs.captioned_images import skipped_text
from offline_compress.pairs.opening import open_pairs
from offline_compress.train.progress import counted, open_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the first is the reference")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="comparison.json, comparison.png, ...")
    parser.add_argument("--images", type=Path, metavar="PATH", help="images with captions, instead of held-out scenes")
    parser.add_argument(
        "--scenes", type=not_negative, default=600, help="scenes or images measured (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    console = open_console()
    samples = heldout_samples(args.scenes) if args.images is None else image_samples(args.images, args.scenes, console)
    rows, labels = [], labels_of(args.bundles)
    for label, bundle in zip(labels, args.bundles, strict=True):
        with counted(label, len(samples), console) as progress:
            rows.append(evaluate_bundle(bundle, samples, caption_scores, progress))
        write_captions(args.out / f"captions_{label}.json", rows[-1], samples)
    write_comparison(rows, labels, args.out)
    layers = layers_of(args.bundles)
    write_layers(layers, args.out)
    console.print(comparison_table(rows, labels))
    console.print(layer_table(layers))
    console.print(f"written to {args.out}")
    return 0


def image_samples(path: Path, most: int, console: Console) -> list[Sample]:
    """The first images of a user's that decode, of the test split where there are splits. Raises SourceError."""
    pairs = open_pairs(path, "test")
    good, skipped = pairs.decodable(most)
    if skipped:
        console.print(f"{path}: {skipped_text(skipped)}", highlight=False)
    return [PairSample(pairs, index) for index in good]


def write_captions(path: Path, row: BundleEvaluation, samples: list) -> None:
    """What each bundle said about each image, beside the references."""
    make_folder(path.parent)
    lines = [
        {"caption": caption, "references": list(sample.references)}
        for caption, sample in zip(row.captions, samples, strict=True)
    ]
    write_json(path, lines)
