# SPDX-License-Identifier: Apache-2.0
"""A 30 Hz camera and 10 million events a second into the node: memory, age, every frame counted.

python -m bench.soak --minutes 30 --out out/bench/soak.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.node_process import NodeProcess
from bench.rows import Row, rows_table, write_rows

WARM_UP_S = 60.0
WINDOW_S = 20.0
_FINAL_S = 2.5  # for the last diagnostics


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--events-per-s", type=float, default=10e6)
    parser.add_argument("--image-rate", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("out/bench/soak.json"))
    options = parser.parse_args()
    rows = soak(options.minutes * 60.0, options.events_per_s, options.image_rate)
    write_rows(options.out, rows)
    Console().print(rows_table(f"soak, {options.minutes:g} minutes", rows))
    return 0 if all(row.holds is not False for row in rows) else 1


def soak(seconds: float, events_per_s: float, image_rate: float) -> list[Row]:
    """Through a real ROS 2 where rclpy can be imported, else mailbox and worker without it."""
    if importlib.util.find_spec("rclpy") is not None:
        return node_soak(seconds, events_per_s, image_rate)
    from bench.direct import DirectCaptioner

    captioner = DirectCaptioner()
    memory, sent, told, stopped_s = captioner.soak(seconds, events_per_s, image_rate)
    rows = figures(np.array(memory), sent, told, captioner.start_s, stopped_s)
    return [replace(row, note="without ROS: rclpy cannot be imported") for row in rows]


def node_soak(seconds: float, events_per_s: float, image_rate: float) -> list[Row]:
    node = NodeProcess()
    heard = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody empties would stop the listener
    listener = subprocess.Popen([sys.executable, "-m", "bench.listener"], env=node.environment, stdout=heard)
    command = [sys.executable, "-m", "bench.load", "--seconds", str(seconds), "--image-rate", str(image_rate)]
    command += ["--events-per-s", str(events_per_s)]
    load = subprocess.Popen(command, env=node.environment, stdout=subprocess.PIPE, text=True)
    try:
        memory = sampled(node, seconds)
        sent = json.loads(load.communicate(timeout=60)[0].splitlines()[-1])
        time.sleep(_FINAL_S)
        stopped_s = node.stop()
        listener.kill()  # its lines are in the file
        listener.wait()
        heard.seek(0)
        told = [json.loads(line) for line in heard]
    finally:
        for process in (load, listener, node.process):
            process.kill()
        heard.close()
    return figures(memory, sent, told, node.start_s, stopped_s)


def sampled(node: NodeProcess, seconds: float) -> np.ndarray:
    """(n, 2): seconds and MiB, twice a second."""
    begun = time.monotonic()
    samples = []
    for number in track(range(int(2 * seconds)), description="soak"):
        time.sleep(max(0.0, begun + number / 2 - time.monotonic()))
        samples.append((time.monotonic() - begun, node.rss_mb()))
    return np.array(samples)


def figures(memory: np.ndarray, sent: dict, told: list[dict], start_s: float, stopped_s: float) -> list[Row]:
    last = told[-1]
    counted = {name: int(last[f"frames_{name}"]) for name in ("received", "processed", "dropped", "rejected", "failed")}
    counted["duplicate"] = int(last["frames_duplicate"])
    packets = int(last.get("event_packets", 0)) + int(last.get("event_packets_lost", 0))
    accounted = sum(counted.values()) - counted["received"]
    active = [line for line in told if float(line.get("latency_ms_p99", "nan")) > 0][2:]
    # Waiting is age without computing; it holds the transport too.
    waiting_ms = [float(line["frame_age_ms_p99"]) - float(line["latency_ms_p99"]) for line in active]
    computing_ms = [float(line["latency_ms_p99"]) for line in active]
    third = max(1, len(active) // 3)
    p50 = [float(line["latency_ms_p50"]) for line in active]
    growth = float(np.mean(p50[-third:]) / np.mean(p50[:third]) - 1.0)
    seconds = sent["seconds"]
    return [
        Row("camera", sent["images"] / seconds, "images/s", 29.0, "higher"),
        Row("event camera", sent["events"] / seconds / 1e6, "M events/s", 9.5, "higher"),
        Row("resident memory slope", slope_mb(memory), "MB per 10 min", 1.0),
        Row("resident memory at the end", float(memory[-1, 1]), "MiB"),
        Row("latency p99", float(np.median(computing_ms)), "ms"),
        Row(
            "frame age p99 beyond one processing time",
            float(np.median(waiting_ms)),
            "ms",
            float(np.median(computing_ms)),
        ),
        Row("growth of latency, last third over first", 100 * growth, "%", 20.0),
        Row("images sent that reached the node", 100 * counted["received"] / sent["images"], "%", 100.0, "higher"),
        Row("event packets that reached the node", 100 * int(last.get("event_packets", 0)) / sent["packets"], "%"),
        Row("event packets counted, read or lost", 100 * packets / sent["packets"], "%", 99.0, "higher"),
        Row("frames received and not accounted for", float(counted["received"] - accounted), "frames", 0.0),
        Row("frames processed", float(counted["processed"]), "frames"),
        Row("frames dropped for newer ones", float(counted["dropped"]), "frames"),
        Row("frames failed", float(counted["failed"]), "frames", 0.0),
        Row("start to active", start_s, "s"),
        Row("SIGINT to end", stopped_s, "s", 1.0),
    ]


def slope_mb(memory: np.ndarray) -> float | None:
    """MiB per 10 minutes by least squares after the warm-up; None where the run was shorter.

    Of the lowest value of every 20 seconds: messages under way come and go by megabytes, a leak stays.
    """
    warm = memory[memory[:, 0] > WARM_UP_S]
    window = (warm[:, 0] // WINDOW_S).astype(int)
    lowest = np.array([warm[window == number].min(axis=0) for number in np.unique(window)])
    return float(np.polyfit(lowest[:, 0], lowest[:, 1], 1)[0] * 600.0) if len(lowest) >= 3 else None


if __name__ == "__main__":
    sys.exit(main())
