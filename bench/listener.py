# SPDX-License-Identifier: Apache-2.0
"""Hears the diagnostics of the captioner: python -m bench.listener prints each as one JSON line."""

from __future__ import annotations

import json
import sys


def main() -> int:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import ExternalShutdownException

    def show(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("captions"):
                values = {pair.key: pair.value for pair in status.values}
                print(json.dumps({"level": ord(status.level), "message": status.message} | values), flush=True)

    rclpy.init()
    node = rclpy.create_node("listener")
    node.create_subscription(DiagnosticArray, "/diagnostics", show, 10)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
