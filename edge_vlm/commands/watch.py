# SPDX-License-Identifier: Apache-2.0
"""Caption a video file, or a camera as it sees. Of a camera the newest frame is taken; those missed are counted."""

from __future__ import annotations

import argparse

from edge_vlm.commands.captioning import add_pipeline_arguments, exit_status, open_display, open_pipeline
from edge_vlm.replay.output_folder import OutputFolder
from edge_vlm.replay.runner import run as run_source
from edge_vlm.sources.video import open_video

EPILOG = """\
examples:
  edge-vlm watch 0                          the first camera, until Ctrl-C
  edge-vlm watch /dev/video2 --max-frames 100
  edge-vlm watch clip.mp4 --out out/clip    a video file, every frame
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO_OR_CAMERA", help="video file, stream address, camera number or path")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    source = open_video(args.video)
    try:
        pipeline = open_pipeline(args)
        try:
            output = OutputFolder(args.out) if args.out is not None else None
            result = run_source(source, pipeline, open_display(args), output, args.max_frames)
        finally:
            pipeline.close()
    finally:
        source.close()
    return exit_status(args, result, source)
