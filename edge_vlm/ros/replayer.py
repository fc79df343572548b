# SPDX-License-Identifier: Apache-2.0
"""Play a recording into a captioner node and write down what it says: captions.jsonl, as edge-vlm replay writes it.

Reads what edge-vlm replay reads (rosbag2 db3 and mcap, ROS 1, old type names); rosbag2 itself is not needed.
Publishes on image, image/compressed and events; listens on captioner/step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edge_vlm.commands.numbers import count, positive
from edge_vlm.errors import EdgeVlmError, InputError, OutputError, SourceError
from edge_vlm.replay.line_file import LineFile, cannot_write
from edge_vlm.ros.installed import require_ros

WAIT_FOR_NODE_S = 60.0
_TRAILING_S = 2.0  # after the last message
_LOCKSTEP_TIMEOUT_S = 20.0
# Two topics keep no order between them: in lockstep an image waits until the events before it must have arrived.
_SETTLE_S, _SETTLE_PER_PACKET_S = 0.02, 0.006


def main(args: list[str] | None = None) -> int:
    """Exit status 0 if captions came, 1 with the reason if not."""
    try:
        require_ros()
        return _run(sys.argv if args is None else args)
    except EdgeVlmError as error:
        print(f"replayer: {error}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.utilities import remove_ros_args

    options = _parser().parse_args(remove_ros_args(argv)[1:])
    rclpy.init(args=argv)
    try:
        return _play(options)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "replayer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bag", help="rosbag2 folder, .mcap, .db3 or .bag file")
    parser.add_argument("--image-topic", metavar="TOPIC", help="default: the image topic with the most messages")
    parser.add_argument("--event-topic", metavar="TOPIC", help='"none" leaves events out')
    parser.add_argument("--raw", action="store_true", help="publish compressed images decoded, on image")
    parser.add_argument("--rate", type=positive, default=1.0, help="times the recorded speed (default: 1)")
    parser.add_argument("--clock", action="store_true", help="publish /clock, for nodes with use_sim_time")
    parser.add_argument(
        "--lockstep", action="store_true", help="wait for the captioner after each image, so that it misses none"
    )
    parser.add_argument("--loop", action="store_true", help="start again at the end, until interrupted")
    parser.add_argument("--print", action="store_true", dest="prints", help="print every new caption")
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after N images")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write captions.jsonl there")
    return parser


def _play(options: argparse.Namespace) -> int:
    from edge_vlm.ros.replay_node import ReplayNode
    from edge_vlm.sources.bag import open_recording
    from edge_vlm.sources.bag_topics import choose_topics

    if not options.rate > 0:
        raise SourceError(f"rate {options.rate} is not positive", "1 is the recorded speed")
    lines = _open_lines(options.out)
    try:
        while True:
            with open_recording(options.bag) as recording:
                topics = choose_topics(Path(options.bag), recording.topics, options.image_topic, options.event_topic)
                node = ReplayNode(
                    topics,
                    recording.ros1,
                    options.clock,
                    options.raw,
                    lambda line: _take(line, lines, options.prints),
                )
                try:
                    _one_pass(node, recording, options)
                finally:
                    node.destroy_node()
            if not options.loop:
                return _verdict(node, options)
    finally:
        if lines is not None:
            lines.close()


def _one_pass(node, recording, options: argparse.Namespace) -> None:
    if not node.wait_for_captioner(WAIT_FOR_NODE_S):
        raise SourceError(
            f"nobody subscribes to {node.image_topic} within {WAIT_FOR_NODE_S:.0f} s",
            "start the captioner (ros2 launch edge_vlm captioner.launch.py) and see that it is active",
        )
    pace = _Pace(options.rate)
    packets = 0
    for message in _limited(node, recording, options.max_frames):
        is_image = message.topic == node.topics.image.name
        if not options.lockstep:
            pace.wait(message.receive_ns, node)
        elif is_image:
            node.spin_for(_SETTLE_S + packets * _SETTLE_PER_PACKET_S)
        packets = 0 if is_image else packets + 1
        try:
            node.publish(message)
        except InputError as error:
            print(f"replayer: image {node.images}: {error.what}; left out", file=sys.stderr)
            node.images -= 1
            continue
        if options.lockstep and is_image and not node.wait_for_step(_LOCKSTEP_TIMEOUT_S):
            raise SourceError(
                f"no answer to image {node.images} within {_LOCKSTEP_TIMEOUT_S:.0f} s",
                "it may be undecodable (see /diagnostics); without --lockstep it is skipped",
            )
    node.spin_for(0.0 if options.lockstep else _TRAILING_S)


def _limited(node, recording, max_frames: int | None) -> Iterator:
    for message in recording.messages(node.topic_names):
        if max_frames is not None and node.images >= max_frames:
            return
        yield message


class _Pace:
    """Holds messages back until their time has come, at ``rate`` times the recorded speed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._origin: tuple[int, float] | None = None

    def wait(self, receive_ns: int, node) -> None:
        if self._origin is None:
            self._origin = (receive_ns, time.monotonic())
        first_ns, started_s = self._origin
        node.spin_for(started_s + (receive_ns - first_ns) * 1e-9 / self._rate - time.monotonic())


def _open_lines(out: Path | None) -> LineFile | None:
    if out is None:
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    return LineFile(out / "captions.jsonl")


def _take(line: str, lines: LineFile | None, prints: bool) -> None:
    if lines is not None:
        lines.write(line.encode() if line.endswith("\n") else line.encode() + b"\n")
    if prints:
        said = json.loads(line)
        if said["caption_refreshed"]:
            share = f"{said['tokens_computed']}/{said['tokens_total']}"
            print(f"{said['stamp_ns'] * 1e-9:.2f}  {said['branch']:<7} {share:>8}  {said['caption']}", flush=True)


def _verdict(node, options: argparse.Namespace) -> int:
    where = f"; written to {options.out / 'captions.jsonl'}" if options.out else ""
    print(f"{node.images} images played, {node.steps} captioned{where}")
    if node.steps == 0:
        raise OutputError("not one frame was captioned", "see the captioner's log and /diagnostics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
