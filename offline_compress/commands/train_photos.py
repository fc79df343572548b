# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress train-photos``: trains a captioner of the SmolVLM class on photographs in the Flickr8k layout."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a captioner on photographs in the Flickr8k layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR",
                        help="captions.txt, *.trainImages.txt etc., photos as files or in a .zip")  # fmt: skip
    parser.add_argument("--teacher", type=Path, required=True, metavar="TFLITE",
                        help="int8 MobileNetV2 1.0/224, whose features the encoder learns to give")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, curve, DIR/model")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="views and features (default: DIR/cache)")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="captions without photos, one a line, plain or .gz")
    parser.add_argument("--dinov2", type=Path, metavar="PATH",
                        help="start the encoder from a DINOv2-small: Hugging Face folder or ONNX file")  # fmt: skip
    parser.add_argument("--epochs", type=float, default=6, help="times each photo is seen (default: %(default)s)")
    parser.add_argument("--text-steps", type=int, default=160, help="steps on captions alone (default: %(default)s)")
    parser.add_argument("--views", type=int, default=4, help="crops of each photo (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="photos in a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--frozen-blocks", type=int, default=0, help="of the encoder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data order (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--checkpoint-every", type=int, default=100, metavar="N", help="steps (default: %(default)s)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the checkpoint where there is one"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from offline_compress.models.photo_model import IMAGE_SIZE
    from offline_compress.models.photo_views import prepare_views
    from offline_compress.pairs.flickr8k import open_flickr8k
    from offline_compress.train.photo_trainer import PhotoTrainingConfig
    from offline_compress.train.photo_training import PhotoData, PhotoTraining, read_texts
    from offline_compress.train.progress import counted, open_console

    console = open_console()
    if args.threads:
        torch.set_num_threads(args.threads)
    train, dev = open_flickr8k(args.photos, "train"), open_flickr8k(args.photos, "dev")
    with counted("views", args.views * len(train), console) as progress:
        views = prepare_views(train, args.teacher, args.cache or args.out / "cache", IMAGE_SIZE, args.views,
                              lambda done, total: progress(done))  # fmt: skip
    texts = read_texts(args.texts) if args.texts else ()
    steps = args.text_steps + round(args.epochs * len(train) / args.batch)
    config = PhotoTrainingConfig(
        steps=steps, text_steps=args.text_steps, rate=args.rate, warmup_steps=60, frozen_blocks=args.frozen_blocks,
        checkpoint_every=args.checkpoint_every,
    )  # fmt: skip
    training = PhotoTraining(
        args.out, PhotoData(train, dev, views, texts), config, args.batch, args.seed, args.dinov2, console.print
    )
    with counted("steps", steps, console) as progress:
        folder = training.run(args.resume == "auto", lambda p: progress(p.step, note=note(p)))
    console.print(f"model in {folder}")
    return 0


def note(progress) -> str:
    losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
    return f"{losses}, {progress.samples_per_s:.0f} samples/s"
