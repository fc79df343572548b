# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402, F401, F811 - ROS is asked for before it is imported, and fixtures are imported by name
"""The node fed by the replayer says what ``edge-vlm replay`` says of the same recording."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")
pytest.importorskip("event_camera_msgs", reason="event_camera_msgs is not installed")

from lifecycle_msgs.msg import Transition
from ros_graph import SECOND, graph

from edge_vlm.cli import main as edge_vlm_main
from edge_vlm.default_bundle import default_bundle_path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "bags" / "sample.mcap"
FRAMES = 45


def replayed_by_node(graph, bag: Path, out: Path, *options: str) -> list[dict]:
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "ROS_DOMAIN_ID": str(graph.context.get_domain_id()),
    }
    command = [sys.executable, "-m", "edge_vlm.ros.replayer", str(bag), "--raw", "--out", str(out), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return records(out)


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]


def what_was_said(record: dict) -> dict:
    """Without what is measured, and without the number: the node has tried itself on a frame before."""
    return {name: value for name, value in record.items() if name not in ("measured", "frame")}


def test_node_and_replay_say_the_same(graph, tmp_path):
    if not SAMPLE.is_file():
        pytest.skip(f"the sample recording is not here: {SAMPLE}")
    bundle = default_bundle_path()
    edge_vlm_main(["replay", str(SAMPLE), "--max-frames", str(FRAMES), "--out", str(tmp_path / "replay"), "--json"])
    graph.captioner(bundle=str(bundle))
    assert graph.change(Transition.TRANSITION_CONFIGURE)
    assert graph.change(Transition.TRANSITION_ACTIVATE)
    by_node = replayed_by_node(graph, SAMPLE, tmp_path / "node", "--lockstep", "--max-frames", str(FRAMES))
    by_replay = records(tmp_path / "replay")
    assert len(by_node) == len(by_replay) == FRAMES
    assert [r["caption"] for r in by_node] == [r["caption"] for r in by_replay]
    assert [what_was_said(r) for r in by_node] == [what_was_said(r) for r in by_replay]


def test_replayer_says_why_nothing_came(tmp_path, messages, tiny_bundle):
    from edge_vlm.ros import replayer

    bag = messages.write(tmp_path / "bag", [("/image", n * SECOND, messages.image(n * SECOND)) for n in (1, 2)])
    old = replayer.WAIT_FOR_NODE_S
    replayer.WAIT_FOR_NODE_S = 0.2
    try:
        assert replayer.main(["replayer", str(bag)]) == 1
        assert replayer.main(["replayer", str(tmp_path / "absent")]) == 1
        with pytest.raises(SystemExit):
            replayer.main(["replayer", str(bag), "--rate", "0"])
    finally:
        replayer.WAIT_FOR_NODE_S = old
