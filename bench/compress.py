# SPDX-License-Identifier: Apache-2.0
"""What compression costs in captions: each ingredient without training, and what training keeps, through .tflite.

``python -m bench.compress``, or `make bench-compress`. Photographs and a captioner trained on them (`train-photos`) are
measured where they are given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from bench.kept import KeptFigures
from bench.photo_float_rows import photo_float_rows
from bench.plan_rows import plan_rows
from bench.qat_rows import qat_rows
from bench.rows import Row, rows_table, write_rows
from bench.trained_rows import trained_rows
from bench.training_free import Subject, measure_all
from bench.training_free_rows import draw_ablation, training_free_rows
from bench.weight_error_rows import weight_error_rows
from edge_vlm.errors import EdgeVlmError
from offline_compress.evaluate.captioning import answer_log_probabilities
from offline_compress.evaluate.heldout import heldout_samples
from offline_compress.evaluate.pair_evaluation import pair_samples
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.models.loading import load_vlm
from offline_compress.pairs.batches import pair_batches
from offline_compress.pairs.opening import open_pairs
from offline_compress.train.progress import open_console
from offline_compress.train.qat import BatchSource
from offline_compress.train.scene_batches import scene_data

BATCH = 32
LOOKED_AT = 200  # images on which a training is watched


def main() -> int:
    """Exit status 0 where all figures were measured, whether their goals hold or not; 1 for an error."""
    parser = argparse.ArgumentParser(prog="bench-compress", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("out/models"), help="what make models trained")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="its scenes (default: MODELS/float/cache)")
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes (default: %(default)s)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs in the Flickr8k layout")
    parser.add_argument("--photo-models", type=Path, metavar="DIR", help="what train-photos wrote: DIR/model, bundles")
    parser.add_argument("--images", type=int, default=100, help="test photographs (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=64, help="calibration pairs (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of calibration and training (default: %(default)s)")
    parser.add_argument("--qat-steps", type=int, default=60, help="of the short trainings; 0: none (default: 60)")
    parser.add_argument(
        "--train-steps", type=int, default=300, help="of trainings with distillation; 0: none (default: %(default)s)"
    )
    parser.add_argument(
        "--known-only", action="store_true", help="compress and train nothing anew: rows of what WORK holds"
    )
    parser.add_argument("--work", type=Path, default=Path("out/bench/compress.work"), help="figures that are known")
    parser.add_argument("--out", type=Path, default=Path("out/bench/compress.json"), help="default: %(default)s")
    args = parser.parse_args()
    console = open_console()
    try:
        rows = weight_error_rows() + demo_rows(args, console) + photo_rows(args, console)
        write_rows(args.out, rows)
    except EdgeVlmError as error:
        print(f"bench-compress: {error}", file=sys.stderr)
        return 1
    console.print(rows_table("compression", rows))
    console.print(f"written to {args.out}")
    return 0


def demo_rows(args: argparse.Namespace, console: Console) -> list[Row]:
    """One row that says so where the demo model was not trained. Raises SourceError where its scenes are missing."""
    if not (args.models / "float" / "model").is_dir():
        return [Row("demo: all figures", None, note=f"no {args.models / 'float' / 'model'}: make models")]
    folder, cache = args.models / "float" / "model", args.cache or args.models / "float" / "cache"
    samples = heldout_samples(args.scenes)

    def batches(seed: int):
        data = scene_data(folder, cache, BATCH, seed).batches
        return [data.batch(step) for step in range(-(-args.pairs // BATCH))]

    subject = Subject("demo", folder, batches, samples, KeptFigures(args.work / "demo", args.known_only))
    rows = subject_rows(subject, args, console)
    if args.train_steps:
        rows += trained_rows(subject, ("--data-cache", str(cache)), args.train_steps, args.seeds, console)
    return rows + initialisation_rows(subject, lambda seed: scene_data(folder, cache, BATCH, seed).batches, args)


def photo_rows(args: argparse.Namespace, console: Console) -> list[Row]:
    """One row that says so where photographs or their captioner are not given."""
    if args.photos is None or args.photo_models is None:
        return [Row("photos: all figures", None, note="give --photos and --photo-models")]
    folder = args.photo_models / "model"
    train = open_pairs(args.photos, "train").plain()
    samples, _ = pair_samples(open_pairs(args.photos, "test").plain(), args.images)

    def batches(seed: int):
        data = pair_batches(folder, train, BATCH, seed, most=args.pairs)
        return [data.batch(step) for step in range(-(-args.pairs // BATCH))]

    subject = Subject("photos", folder, batches, samples, KeptFigures(args.work / "photos", args.known_only))
    rows = photo_float_rows(subject) + subject_rows(subject, args, console)
    if args.train_steps:
        data = ("--images", str(args.photos), "--plain-captions")
        rows += trained_rows(subject, data, args.train_steps, args.seeds, console)
    return rows + initialisation_rows(subject, lambda seed: pair_batches(folder, train, BATCH, seed), args)


def initialisation_rows(subject: Subject, batches: Callable[[int], BatchSource], args: argparse.Namespace) -> list[Row]:
    """Short trainings from k-means and from absmean, looked at on up to 200 images."""
    if not args.qat_steps:
        return []
    vlm = load_vlm(subject.folder)
    some = subject.samples[:LOOKED_AT]
    images, firsts = [vlm.image.square(s.image_rgb) for s in some], [s.references[0] for s in some]

    def perplexity(model: torch.nn.Module) -> float:
        scores = answer_log_probabilities(model, vlm.tokenizer, vlm.prompt, images, firsts, vlm.image.normalised)
        return from_log_probabilities(scores)

    return qat_rows(subject, batches, perplexity, args.qat_steps, max(1, args.qat_steps // 12), args.seeds)


def subject_rows(subject: Subject, args: argparse.Namespace, console: Console) -> list[Row]:
    found = measure_all(subject, args.seeds, console)
    if len(found) > 1:
        draw_ablation(subject.name, found, args.out.with_name(f"compress_{subject.name}.png"))
    return training_free_rows(subject.name, found) + plan_rows(subject, args.seeds, console)


if __name__ == "__main__":
    sys.exit(main())
