# SPDX-License-Identifier: Apache-2.0
"""What the node costs around the model: start, idling, taking images in. python -m bench.ros --out out/bench/ros.json

Through a real ROS 2 where rclpy can be imported; else the same mailbox and worker without it, and the rows say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.event_rows import event_rows
from bench.load import Pictures
from bench.rows import Row, rows_table, write_rows
from edge_vlm.sources.image_decoding import decode_image
from edge_vlm.sources.message_types import IMAGE, deserialised

SIZES = {"640x480": (640, 480, 1.0), "1920x1080": (1920, 1080, 3.0)}  # goal in ms
IDLE_S, LOAD_S, RATE_HZ = 10.0, 10.0, 20.0
NO_ROS = "without ROS: rclpy cannot be imported"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench/ros.json"))
    options = parser.parse_args()
    with_ros = importlib.util.find_spec("rclpy") is not None
    rows = [*(node_rows() if with_ros else direct_rows()), *decoding_rows(), *event_rows()]
    write_rows(options.out, rows)
    Console().print(rows_table("the ROS 2 node", rows))
    return 0 if all(row.holds is not False for row in rows) else 1


def node_rows() -> list[Row]:
    from bench.node_process import NodeProcess

    starts, stops = [], []
    for _ in range(3):
        node = NodeProcess()
        starts.append(node.start_s)
        stops.append(node.stop())
    rows = [
        Row("start to active", statistics.median(starts), "s", 2.0),
        Row("SIGINT to end", statistics.median(stops), "s", 1.0),
    ]
    node = NodeProcess()
    try:
        time.sleep(1.0)
        before_s = node.cpu_s()
        time.sleep(IDLE_S)
        rows.append(Row("processor at idle", 100 * (node.cpu_s() - before_s) / IDLE_S, "% of a core", 1.0))
    finally:
        node.stop()
    return rows + [row for name in SIZES for row in intake_rows(name)]


def intake_rows(name: str) -> list[Row]:
    """Per image, in the executor's thread: taking it out and the callback, and all that rclpy does around that."""
    width, height, goal_ms = SIZES[name]
    command = [sys.executable, "-m", "bench.load", "--seconds", str(LOAD_S), "--image-rate", str(RATE_HZ)]
    command += ["--width", str(width), "--height", str(height)]
    taken_ms, thread_s = taken_images(command)
    whole_ms = 1e3 * thread_s / max(1, len(taken_ms))
    note = f"{len(taken_ms)} of {round(LOAD_S * RATE_HZ)} images arrived"
    return [
        Row(f"work outside the worker, {name}", float(np.mean(taken_ms)), "ms", goal_ms, note="take and callback"),
        Row(f"executor's thread for one image, {name}", whole_ms, "ms", note=f"rclpy's waiting included; {note}"),
    ]


def taken_images(command: list[str]) -> tuple[list[float], float]:
    """Runs the load against a node in this process: processor ms of every image taken, and thread seconds in all."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from bench.node_process import environment
    from edge_vlm.ros.node import CaptionerNode

    taken_ms: list[float] = []

    class TimedExecutor(SingleThreadedExecutor):
        def _take_subscription(self, subscription):
            begun = time.thread_time()
            execute = super()._take_subscription(subscription)

            async def timed() -> None:
                await execute()
                taken_ms.append(1e3 * (time.thread_time() - begun))

            return execute and timed

    variables = environment()
    os.environ["CYCLONEDDS_URI"] = variables["CYCLONEDDS_URI"]
    rclpy.init(domain_id=int(variables["ROS_DOMAIN_ID"]))
    node, executor = CaptionerNode(), TimedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    begun_s = time.thread_time()
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as load:
        while load.poll() is None:
            executor.spin_once(0.2)
    spent_s = time.thread_time() - begun_s
    node.stop()
    node.destroy_node()
    rclpy.shutdown()
    return taken_ms, spent_s


def direct_rows() -> list[Row]:
    from bench.direct import DirectCaptioner

    captioner = DirectCaptioner()
    rows = [Row("start to active", captioner.start_s, "s", 2.0, note=NO_ROS)]
    for name, (width, height, goal_ms) in SIZES.items():
        pictures, spent_s = Pictures(width, height), 0.0
        for number in range(100):
            data = pictures.message(number)
            begun = time.thread_time()
            captioner.put_image(data)
            spent_s += time.thread_time() - begun
            time.sleep(0.01)
        rows.append(Row(f"work outside the worker, {name}", spent_s * 10.0, "ms", goal_ms, note=NO_ROS))
    captioner.stop()
    return rows


def decoding_rows() -> list[Row]:
    """From serialised message to RGB, on the worker."""
    rows = []
    for name, (width, height, _) in SIZES.items():
        data = Pictures(width, height).message(0)
        durations = []
        for _ in range(50):
            begun = time.perf_counter()
            message = deserialised(memoryview(data), IMAGE, ros1=False)
            fields = (message.encoding, message.height, message.width, message.step, message.is_bigendian)
            image = decode_image(*fields, message.data)
            durations.append(1e3 * (time.perf_counter() - begun))
        rows.append(Row(f"rgb8 to pixels, {name}", statistics.median(durations), "ms"))
    shared = np.shares_memory(image, np.frombuffer(data, np.uint8))
    return [*rows, Row("rgb8 pixels are a view of the message", float(shared), "", 1.0, "higher")]


if __name__ == "__main__":
    sys.exit(main())
