# SPDX-License-Identifier: Apache-2.0
"""/diagnostics once a second on the steady clock, whatever sim time does."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

PERIOD_S = 1.0


class DiagnosticsPublisher:
    """Asks ``status()`` for (level, message, values) every second. ``before`` is called first, each time."""

    def __init__(
        self,
        node: Node,
        status: Callable[[], tuple[bytes, str, dict[str, str]]],
        before: Callable[[], None],
        hardware_id: str,
    ) -> None:
        self._status, self._before = status, before
        if not node.has_parameter("diagnostic_updater.use_fqn"):
            # Cameras of one process share the node name; their namespace tells them apart.
            node.declare_parameter("diagnostic_updater.use_fqn", node.get_namespace() != "/")
        self._updater = Updater(node, PERIOD_S)
        # The updater's own timer follows the ROS clock: without /clock it would never fire in sim time.
        node.destroy_timer(self._updater.timer)
        self._updater.setHardwareID(hardware_id)
        self._updater.add("captions", self._fill)
        self._timer = node.create_timer(PERIOD_S, self.update, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def update(self) -> None:
        """Publish now."""
        self._before()
        self._updater.update()

    def _fill(self, wrapper: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        level, message, values = self._status()
        wrapper.summary(level, message)
        for key, value in values.items():
            wrapper.add(key, value)
        return wrapper
