# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress train-photos``: trains a captioner of the SmolVLM class on photographs in the Flickr8k layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_vlm.commands.numbers import count, not_negative, positive

STAGES = (
    ("texts", 240, "steps on captions without photos"),
    ("teacher", 1000, "steps of the text half on the teacher's features"),
    ("glimpses", 2000, "steps of encoder and connector towards the teacher's maps"),
    ("photos", 800, "steps of the whole on photos"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR",
                        help="captions.txt, *.trainImages.txt etc., photos as files or in a .zip")  # fmt: skip
    parser.add_argument("--teacher", type=Path, required=True, metavar="TFLITE",
                        help="int8 MobileNetV2 1.0/224, whose features the encoder learns to give")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, curve, DIR/model")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="captions without photos, one a line, plain or .gz")
    parser.add_argument("--start", type=Path, metavar="DIR",
                        help="--out of an earlier run whose weights are gone on with; give another --seed")  # fmt: skip
    for name, steps, what in STAGES:
        parser.add_argument(f"--{name}-steps", type=not_negative, default=steps, help=f"{what} (default: %(default)s)")
    parser.add_argument("--batch", type=count, default=32, help="photos in a step (default: %(default)s)")
    parser.add_argument("--rate", type=positive, default=1e-3, help="AdamW's learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of weights and data order (default: %(default)s)")
    parser.add_argument("--threads", type=count, help="CPU threads (default: all cores)")
    parser.add_argument("--checkpoint-every", type=count, default=100, metavar="N", help="steps (default: %(default)s)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the checkpoint where there is one"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from offline_compress.models.mobilenet_features import MobileNetFeatures
    from offline_compress.pairs.flickr8k import open_flickr8k
    from offline_compress.train.photo_trainer import PhotoTrainingConfig, Stages
    from offline_compress.train.photo_training import PhotoData, PhotoTraining, read_texts
    from offline_compress.train.progress import counted, open_console

    console = open_console()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = PhotoData(
        open_flickr8k(args.photos, "train"), open_flickr8k(args.photos, "dev"), MobileNetFeatures(args.teacher),
        read_texts(args.texts) if args.texts else (),
    )  # fmt: skip
    stages = Stages(**{name: getattr(args, f"{name}_steps") for name, _, _ in STAGES})
    config = PhotoTrainingConfig(stages, rate=args.rate, checkpoint_every=args.checkpoint_every)
    training = PhotoTraining(args.out, data, config, args.batch, args.seed, console.print, args.start)
    with counted("steps", config.steps, console) as progress:
        folder = training.run(args.resume == "auto", lambda p: progress(p.step, note=note(p)))
    console.print(f"model in {folder}")
    return 0


def note(progress) -> str:
    losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
    return f"{losses}, {progress.samples_per_s:.0f} samples/s"
