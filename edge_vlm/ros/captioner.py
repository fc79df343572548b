# SPDX-License-Identifier: Apache-2.0
"""Caption a camera: the executable of ``ros2 run edge_vlm captioner`` and of captioner.launch.py."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path


def main(args: list[str] | None = None) -> int:
    """Exit status 0 after SIGINT, SIGTERM or shutdown, 1 where the node cannot start."""
    _on_signals(lambda *_: os._exit(0))  # imports take a second, and there is nothing to clean up yet
    from edge_vlm.errors import EdgeVlmError

    try:
        return _run(sys.argv if args is None else args)
    except EdgeVlmError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    from edge_vlm.ros.installed import require_ros

    require_ros()
    _ensure_log_folder()
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.utilities import remove_ros_args

    from edge_vlm.ros.node import CaptionerNode

    cameras = _parsed(remove_ros_args(argv)[1:]).cameras
    asked_to_end = threading.Event()
    _on_signals(lambda *_: asked_to_end.set())  # rclpy's handlers shut the context down and call these
    rclpy.init(args=argv)
    nodes, idle = [], False
    try:
        if asked_to_end.is_set():
            return 0
        executor = SingleThreadedExecutor()
        nodes = _nodes(CaptionerNode, cameras, argv)
        for node in nodes:
            executor.add_node(node)
            if node.parameters["autostart"]:
                _start(node)
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        if rclpy.ok():  # else a signal came while the nodes were being made
            raise
    finally:
        idle = all([node.stop() for node in nodes])
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    if not idle:
        sys.stderr.flush()
        os._exit(0)  # a thread inside the inference engine cannot be ended otherwise
    return 0


def _on_signals(handler: Callable) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("captioner", description=__doc__)
    parser.add_argument(
        "--cameras",
        nargs="*",
        default=[],
        type=str.split,
        metavar="NAME",
        help="one node each, all in this process, in the camera's namespace: front/image, rear/image ...",
    )
    parsed = parser.parse_args(arguments)
    parsed.cameras = [name for names in parsed.cameras for name in names]
    return parsed


def _nodes(node_class: type, cameras: list[str], argv: list[str]) -> list:
    if not cameras:
        return [node_class()]
    base = next((word.partition(":=")[2] for word in reversed(argv) if word.startswith("__ns:=")), "").rstrip("/")
    return [node_class(cli_args=["--ros-args", "-r", f"__ns:={base}/{name.strip('/')}"]) for name in cameras]


def _start(node) -> None:
    """Configure and activate; a node that cannot stays unconfigured, with the reason in log and diagnostics."""
    from rclpy.lifecycle import TransitionCallbackReturn

    if node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
        node.trigger_activate()
    else:
        name = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
        node.get_logger().error(f"once that is mended: ros2 lifecycle set {name} configure, then activate")


def _ensure_log_folder() -> None:
    """ROS will not start where it cannot write its log; a read-only home must not keep a robot from seeing."""
    log_dir = os.environ.get("ROS_LOG_DIR") or os.path.join(os.environ.get("ROS_HOME") or "~/.ros", "log")
    folder = Path(os.path.expanduser(log_dir))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        fallback = tempfile.mkdtemp(prefix="edge_vlm_log_")
        print(f"captioner: cannot write logs to {folder} ({error.strerror}); writing to {fallback}", file=sys.stderr)
        os.environ["ROS_LOG_DIR"] = fallback


if __name__ == "__main__":
    sys.exit(main())
