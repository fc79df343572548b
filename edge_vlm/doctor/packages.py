# SPDX-License-Identifier: Apache-2.0
"""Python packages that captioning stands on, and ROS."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys

from edge_vlm.doctor.check import FAIL, OK, WARN, Check

# distribution, module, what is lost without it
NEEDED = (
    ("numpy", "numpy"),
    ("opencv-python-headless", "cv2"),
    ("tokenizers", "tokenizers"),
    ("rosbags", "rosbags"),
    ("mcap", "mcap"),
    ("zstandard", "zstandard"),
    ("rich", "rich"),
    ("PyYAML", "yaml"),
)
SOURCE_ROS = "source /opt/ros/<distro>/setup.bash"
RUNTIMES = (("ai-edge-litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime"), ("tensorflow", "tensorflow"))


def checks() -> list[Check]:
    return [*(_package(distribution, module) for distribution, module in NEEDED), _runtime()]


def ros_checks() -> list[Check]:
    """rclpy and the message packages; only the node needs them."""
    distro = os.environ.get("ROS_DISTRO", "")
    if not importable("rclpy"):
        detail = "rclpy is not importable: the node cannot run; replay and watch do not need it"
        return [Check("ros", WARN, detail, f"{SOURCE_ROS}, if you want the node")]
    absent = [name for name in ("vision_msgs", "diagnostic_msgs", "event_camera_msgs") if not importable(name)]
    if absent:
        packages = " ".join(f"ros-{distro or '<distro>'}-{name.replace('_', '-')}" for name in absent)
        return [Check("ros", WARN, f"{distro}: without {', '.join(absent)}", f"sudo apt install {packages}")]
    return [Check("ros", OK, f"{distro}: rclpy and messages")]


def no_graph() -> Check:
    """Topics were named, and there is no ROS to look for them in."""
    return Check("ros graph", WARN, "topics are not looked at: rclpy is not importable", SOURCE_ROS)


def _package(distribution: str, module: str) -> Check:
    try:
        importlib.import_module(module)
    except ImportError as error:
        return Check(
            distribution, FAIL, f"cannot be imported: {error}", f"{sys.executable} -m pip install {distribution}"
        )
    return Check(distribution, OK, _version(distribution, module))


def _runtime() -> Check:
    """The first LiteRT runtime that can be imported; without one NumPy computes."""
    install = f"{sys.executable} -m pip install ai-edge-litert"
    for distribution, module in RUNTIMES:
        if importable(module):
            version = _version(distribution, module)
            if module == "ai_edge_litert":
                return Check("litert", OK, f"{distribution} {version}")
            return Check("litert", WARN, f"{distribution} {version}", f"{install}, the runtime that is tested")
    detail = "no LiteRT runtime can be imported, so the operators cannot run: NumPy will compute, many times slower"
    return Check("litert", WARN, detail, f"{install} (it has no rosdep key)")


def importable(module: str) -> bool:
    """Whether ``import module`` works here."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _version(distribution: str, module: str) -> str:
    """Of the distribution, or of the module where another distribution brought it (opencv-python, apt)."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(module), "__version__", "of unknown version"))
