# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - ROS is asked for before it is imported
"""The executable as a process: signals at any moment, an unwritable home, several cameras, a wrong parameter."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")

ROOT = Path(__file__).resolve().parents[2]


def start(*ros_arguments: str, arguments: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
    variables = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"} | environment
    variables["ROS_DOMAIN_ID"] = str(60 + os.getpid() % 40)
    return subprocess.Popen(
        [sys.executable, "-m", "edge_vlm.ros.captioner", *arguments, "--ros-args", *ros_arguments],
        env=variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said_until(process: subprocess.Popen, text: str) -> str:
    """What it printed on stderr up to the line with ``text``."""
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without saying {text!r}: {said}")


def ended(process: subprocess.Popen, number: int) -> tuple[int, float, str]:
    """Exit status, seconds it took, and the rest of what it said."""
    sent = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    return process.returncode, time.monotonic() - sent, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_an_active_node_within_a_second(tiny_bundle, number):
    process = start("-p", f"bundle:={tiny_bundle}")
    said_until(process, "active; listening")
    status, took_s, said = ended(process, number)
    assert (status, took_s < 1.0) == (0, True)
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.45, 0.6, 0.8])
def test_signal_while_it_starts(tiny_bundle, after_s, number):
    process = start("-p", f"bundle:={tiny_bundle}")
    time.sleep(after_s)
    status, took_s, said = ended(process, number)
    # Before our code runs at all, Python itself answers the signal.
    assert status in (0, -number, 1, 128 + number)
    assert took_s < 2.0
    assert "in main" not in said


def test_unwritable_home(tiny_bundle):
    nowhere = "/proc/nowhere"
    process = start("-p", f"bundle:={tiny_bundle}", HOME=nowhere, ROS_LOG_DIR="", XDG_CACHE_HOME=nowhere)
    said = said_until(process, "active; listening")
    assert "cannot write logs to /proc/nowhere" in said
    assert ended(process, signal.SIGINT)[0] == 0


def test_several_cameras_in_one_process(tiny_bundle):
    process = start("-p", f"bundle:={tiny_bundle}", "-r", "__ns:=/robot", arguments=("--cameras", "front rear"))
    said = said_until(process, "active; listening on /robot/rear/image")
    assert "active; listening on /robot/front/image" in said
    assert ended(process, signal.SIGTERM)[0] == 0


def test_wrong_parameter_is_one_clear_error_and_exit_status_1():
    process = start("-p", "route:=backwards")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith("captioner: parameter route must be one of auto, full, sparse, shallow; got 'backwards'")
    assert "Traceback" not in said


def test_without_a_bundle_the_process_lives(tmp_path):
    process = start("-p", f"bundle:={tmp_path / 'absent'}")
    said = said_until(process, "ros2 lifecycle set /captioner configure")
    assert str(tmp_path / "absent") in said
    assert process.poll() is None
    assert ended(process, signal.SIGINT)[0] == 0


def test_slow_fallback_is_told_with_the_interpreter(tiny_bundle):
    process = start("-p", f"bundle:={tiny_bundle}", EDGE_VLM_RUNTIME="numpy")
    said = said_until(process, "active; listening")
    assert "NumPy reference" in said
    assert sys.executable in said
    assert ended(process, signal.SIGINT)[0] == 0
