# SPDX-License-Identifier: Apache-2.0
"""Turn a video into a ROS 2 recording: images as they are, and the events that an event camera would have seen.

Writes /camera/image_raw (or /camera/image_raw/compressed) and /event_camera/events (event_camera_msgs/EventPacket,
evt3), stamped with the times of the video's frames.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import cv2
from rich.progress import track

from edge_vlm.commands.numbers import count
from edge_vlm.errors import OutputError, SourceError
from edge_vlm.sources.bag_writer import BagWriter
from edge_vlm.sources.video import CameraSource, open_video

IMAGE_TOPIC, EVENT_TOPIC = "/camera/image_raw", "/event_camera/events"
EPILOG = """\
examples:
  edge-vlm make-bag clip.mp4 --events simulated --out clip.mcap
  edge-vlm make-bag clip.mp4 --size 320x240 --raw --max-frames 100 --out clip_bag     a rosbag2 folder
  edge-vlm replay clip.mcap
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="video file")
    parser.add_argument("--out", required=True, type=Path, metavar="BAG", help="FILE.mcap, or a folder to be made")
    parser.add_argument("--events", choices=("simulated", "none"), default="simulated", help="default: simulated")
    parser.add_argument("--size", type=_size, metavar="WxH", help="scale the frames, for example 320x240")
    parser.add_argument("--raw", action="store_true", help="sensor_msgs/Image (large) instead of CompressedImage")
    parser.add_argument("--jpeg-quality", type=_quality, default=90, metavar="1..100", help="default: 90")
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after N frames")


def run(args: argparse.Namespace) -> int:
    if args.out.suffix in (".db3", ".bag"):
        raise OutputError(f"{args.out}: make-bag writes mcap", "name a FILE.mcap, or a folder")
    source = open_video(args.video)
    try:
        if isinstance(source, CameraSource):
            raise SourceError(
                f"{args.video} is a camera", "make-bag reads video files; record cameras with ros2 bag record"
            )
        frames = _write(args, source)
    finally:
        source.close()
    for note in source.notes:
        print(f"note: {note}")
    print(f"{args.out}: {frames} frames" + ("" if args.events == "none" else " and their simulated events"))
    return 0


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 100")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "WxH"."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not all(16 <= int(side) <= 8192 for side in match.groups()):
        raise argparse.ArgumentTypeError("must look like 320x240, sides from 16 to 8192")
    return int(match[1]), int(match[2])


def _write(args: argparse.Namespace, source) -> int:
    topic = IMAGE_TOPIC if args.raw else f"{IMAGE_TOPIC}/compressed"
    quality = None if args.raw else args.jpeg_quality
    total = min(filter(None, (source.expected_frames, args.max_frames)), default=None)
    simulator = None
    with BagWriter(args.out) as writer:
        for number, observation in enumerate(track(source, "writing", total=total, transient=True)):
            image, stamp_ns = observation.frame.image, observation.stamp_ns
            if args.size:
                image = cv2.resize(image, args.size, interpolation=cv2.INTER_AREA)
            if args.events == "simulated":
                simulator = simulator or _simulator(image)
                writer.add_event_stream(EVENT_TOPIC, simulator.step(image, stamp_ns // 1000), stamp_ns)
            writer.add_image(topic, stamp_ns, image, jpeg_quality=quality)
            if number + 1 == args.max_frames:
                break
    return number + 1


def _simulator(image):
    from edge_vlm.sources.event_simulation import EventSimulator

    return EventSimulator(image.shape[1], image.shape[0])
