# SPDX-License-Identifier: Apache-2.0
"""The energy meter that the parameter ``energy`` asks for."""

from __future__ import annotations

import math

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Float32

from edge_vlm.live.idle_baseline import IdleBaseline
from edge_vlm.live.power_topic import PushedPowerMeter
from edge_vlm.meters import EnergyMeter, open_energy_meter
from edge_vlm.ros.inputs import sensor_qos


class EnergyInput:
    """``open_meter()`` gives the meter for a pipeline; subscriptions, if any, live until ``destroy()``."""

    def __init__(self, node: Node, choice: str) -> None:
        self._node, self._choice = node, choice
        self._pushed: PushedPowerMeter | None = None
        self._meter: IdleBaseline | None = None
        self._subscription = None
        if choice == "power_topic":
            self._listen(Float32, "power", lambda message: self._pushed.add(message.data))
        elif choice == "battery_topic":
            self._listen(BatteryState, "battery_state", self._on_battery)

    def open_meter(self) -> EnergyMeter:
        self._meter = IdleBaseline(self._pushed or open_energy_meter(battery=self._choice == "battery"))
        return self._meter

    @property
    def idle_power_w(self) -> float:
        """NaN where it is not known."""
        return math.nan if self._meter is None else self._meter.idle_power_w

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _listen(self, kind: type, name: str, callback) -> None:
        self._subscription = self._node.create_subscription(
            kind, name, callback, sensor_qos(10), callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._pushed = PushedPowerMeter(f"topic {self._subscription.topic_name}")

    def _on_battery(self, message: BatteryState) -> None:
        """REP-147: current is negative while discharging; a charging battery tells nothing of the robot's draw."""
        self._pushed.add(message.voltage * -message.current)
