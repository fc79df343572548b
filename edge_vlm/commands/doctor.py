# SPDX-License-Identifier: Apache-2.0
"""Check this machine and the model bundle: what is there, what is missing, and what to do about it.

Every line is OK, WARN (works, with a limitation that the line names) or FAIL (captioning cannot work).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from custom_ops.build import COMPILING
from custom_ops.library import find_library
from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.doctor import machine, packages, permissions
from edge_vlm.doctor.apart import apart
from edge_vlm.doctor.check import FAIL, OK, WARN, Check, guarded
from edge_vlm.errors import OperatorError

EPILOG = """\
examples:
  edge-vlm doctor
  edge-vlm doctor --bundle my_bundle --json

exit status: 0 no FAIL, 1 at least one
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="model bundle (default: the demo bundle)")
    parser.add_argument("--image-topic", metavar="TOPIC", help="ROS topic to look at (default: all that carry images)")
    parser.add_argument("--event-topic", metavar="TOPIC", help="ROS topic to look at (default: all that carry events)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    if not operators_are_built():
        print(COMPILING, file=sys.stderr, flush=True)  # in a process whose words are not shown
    checks = examine(args.bundle, args.image_topic, args.event_topic)
    healthy = all(check.status != FAIL for check in checks)
    if args.json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            print(check.line())
        print(verdict(checks))
    return 0 if healthy else 1


def operators_are_built() -> bool:
    try:
        return find_library() is not None
    except OperatorError:  # a check says more of it
        return True


def verdict(checks: list[Check]) -> str:
    """The last line."""
    if any(check.status == FAIL for check in checks):
        return "not ready: see the FAIL lines"
    limits = sum(check.status == WARN for check in checks)
    if not limits:
        return "everything is in place"
    return f"ready, with {limits} limitation{'s' if limits > 1 else ''}: see the WARN line{'s' if limits > 1 else ''}"


def examine(bundle: Path | None, image_topic: str | None = None, event_topic: str | None = None) -> list[Check]:
    """All checks, in the order in which one depends on another."""
    subjects: list[tuple[str, Callable[[], list[Check]]]] = [
        ("machine", machine.checks),
        ("packages", packages.checks),
        ("operators", lambda: apart("operators")),
        ("bundle", lambda: _bundle_checks(bundle)),
        ("energy", machine.energy_checks),
        ("permissions", permissions.checks),
        ("ros", packages.ros_checks),
    ]
    if packages.importable("rclpy"):
        subjects.append(("ros graph", lambda: _graph_checks(image_topic, event_topic)))
    elif image_topic or event_topic:
        subjects.append(("ros graph", lambda: [packages.no_graph()]))
    return [check for name, subject in subjects for check in guarded(name, subject)]


def _bundle_checks(bundle: Path | None) -> list[Check]:
    path = str(bundle or default_bundle_path())
    found = apart("bundle", path)
    return found + apart("caption", path) if found[0].status == OK else found


def _graph_checks(image_topic: str | None, event_topic: str | None) -> list[Check]:
    from edge_vlm.ros import graph_checks  # rclpy: only where it is there

    return graph_checks.checks(image_topic, event_topic)


def main() -> int:
    """Entry point of ``ros2 run edge_vlm doctor``."""
    parser = argparse.ArgumentParser(
        "doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(_without_ros_arguments(sys.argv[1:])))


def _without_ros_arguments(arguments: list[str]) -> list[str]:
    """ros2 run and launch files may append --ros-args ...; nothing of it concerns the doctor."""
    return arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments


if __name__ == "__main__":
    sys.exit(main())
