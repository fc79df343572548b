# SPDX-License-Identifier: Apache-2.0
"""Draw a finished run as one picture: frames, captions, computed patches, and branch, tokens and time per frame."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from edge_vlm.files import write_bytes
from edge_vlm.replay.output_folder import PICTURE
from edge_vlm.replay.picture import draw
from edge_vlm.replay.read_results import read_results

EPILOG = """\
examples:
  edge-vlm report out/demo                     writes out/demo/timeline.png
  edge-vlm report out/demo --out run.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="OUT_DIR", help="folder that replay or watch wrote with --out")
    parser.add_argument("--out", type=Path, metavar="PNG", help="the picture (default: OUT_DIR/timeline.png)")


def run(args: argparse.Namespace) -> int:
    image = draw(read_results(args.folder))
    path = args.out or args.folder / PICTURE
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_bytes(path, data.tobytes())
    print(path)
    return 0
