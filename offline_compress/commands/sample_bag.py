# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress sample-bag``: the recording that the demo replays."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_vlm.commands.numbers import not_negative
from edge_vlm.files import make_folder
from offline_compress.models.clip_recording import RecordingConfig, record_clip
from offline_compress.models.scenes.clip import sample_clip
from offline_compress.train.progress import counted, open_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mcap", help="the recording to write")
    parser.add_argument("--seed", type=not_negative, default=24, help="of scene and script (default: %(default)s)")
    parser.add_argument(
        "--jpeg-quality", type=int, choices=range(1, 101), default=85, metavar="1..100", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    console, clip = open_console(), sample_clip(args.seed)
    make_folder(args.out.parent)
    with counted("frames", len(clip.times), console) as progress:
        images = record_clip(clip, args.out, RecordingConfig(jpeg_quality=args.jpeg_quality), progress)
    size_mb = args.out.stat().st_size / 1e6
    console.print(f"{args.out}: {images} images and their events, {size_mb:.1f} MB", highlight=False)
    return 0
