# SPDX-License-Identifier: Apache-2.0
"""Caption a recording (rosbag2 db3 or mcap, ROS 1 bag) frame by frame. No ROS installation is needed.

Topics are found by type: sensor_msgs Image or CompressedImage, and event packets (event_camera_msgs or
event_array_msgs in evt3, libcaer, libcaer_cmp or mono; dvs_msgs EventArray) where there are any.
"""

from __future__ import annotations

import argparse

from edge_vlm.commands.captioning import add_pipeline_arguments, exit_status, open_display, open_pipeline
from edge_vlm.replay.output_folder import OutputFolder
from edge_vlm.replay.runner import run as run_source
from edge_vlm.sources.event_frames import open_event_frames
from edge_vlm.sources.observations import open_bag

EPILOG = """\
examples:
  edge-vlm replay bags/sample.mcap --out out/demo
  edge-vlm replay my_bag --image-topic /camera/image_raw --event-topic none
  edge-vlm replay my_bag --reuse off --out out/full                 what do the savings cost on my own recording?
  edge-vlm replay events_only_bag --event-frames 20                 an event camera alone, drawn 20 times a second

Replaying a recording twice gives the same captions, tokens and branches: the lines of captions.jsonl are equal
but for their key "measured".
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", metavar="BAG", help="rosbag2 folder, .mcap, .db3 or .bag file")
    parser.add_argument("--image-topic", metavar="TOPIC", help="default: the image topic with the most messages")
    parser.add_argument(
        "--event-topic", metavar="TOPIC", help='default: the event topic with the most messages; "none": no events'
    )
    parser.add_argument(
        "--event-frames",
        type=float,
        metavar="HZ",
        help="no images: caption pictures drawn from the events at this rate",
    )
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    pipeline = open_pipeline(args)
    try:
        if args.event_frames is not None:
            source = open_event_frames(args.bag, args.event_frames, args.event_topic, pipeline.grid)
        else:
            source = open_bag(args.bag, args.image_topic, args.event_topic, pipeline.grid)
        try:
            output = OutputFolder(args.out) if args.out is not None else None
            result = run_source(source, pipeline, open_display(args), output, args.max_frames)
        finally:
            source.close()
    finally:
        pipeline.close()
    return exit_status(args, result, source)
