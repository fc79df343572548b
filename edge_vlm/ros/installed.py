# SPDX-License-Identifier: Apache-2.0
"""Whether there is ROS: the executables are installed with pip too, where there may be none."""

from __future__ import annotations

import importlib.util

from edge_vlm.errors import EdgeVlmError


def require_ros() -> None:
    """Raises EdgeVlmError where rclpy cannot be imported."""
    if importlib.util.find_spec("rclpy") is None:
        raise EdgeVlmError(
            "rclpy cannot be imported: this is a ROS 2 node",
            "source /opt/ros/<distro>/setup.bash; without ROS: edge-vlm replay, edge-vlm watch",
        )
