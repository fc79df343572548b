# SPDX-License-Identifier: Apache-2.0
"""The node's subscriptions. Callbacks take serialised messages and only put them into the mailbox."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from edge_vlm.live.mailbox import Mailbox
from edge_vlm.live.observer import EventTick
from edge_vlm.live.statistics import LiveStatistics
from edge_vlm.ros.topic_check import topic_problem
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE

DVS_EVENT_ARRAY = "dvs_msgs/msg/EventArray"
EVENT_SOURCES = {"event_packet": EVENT_PACKET, "event_array": DVS_EVENT_ARRAY}
_POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
# Half a second at 30 Hz: the mailbox keeps the newest and counts the others; the middleware would drop them untold.
IMAGE_DEPTH = 15
_EVENT_DEPTH = 500  # packets; every one counts


def sensor_qos(depth: int) -> QoSProfile:
    """Sensor data: best effort, volatile."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass
class _Input:
    subscription: object
    topic: str
    message_type: str
    twin: str = ""  # topic of the other image transport
    problem: str = ""


class Inputs:
    """Image and event subscriptions that fill ``mailbox``; ``problem`` says why nothing can arrive on one of them.

    ``image_type`` empty: no images, an ``EventTick`` every ``tick_s`` instead. ``enabled()`` False: what arrives is
    left alone.
    """

    def __init__(
        self,
        node: Node,
        mailbox: Mailbox,
        statistics: LiveStatistics,
        image_type: str,
        event_type: str,
        tick_s: float,
        enabled: Callable[[], bool],
    ) -> None:
        self._node, self._mailbox, self._statistics, self._enabled = node, mailbox, statistics, enabled
        self._inputs: list[_Input] = []
        self._timer = None
        # A group of our own: rclpy's groups remember for good whatever was once in them.
        self._group = MutuallyExclusiveCallbackGroup()
        try:
            self._listen(image_type, event_type, tick_s)
        except Exception:
            self.destroy()
            raise

    @property
    def topics(self) -> list[str]:
        """The images' first."""
        return [entry.topic for entry in reversed(self._inputs)]

    @property
    def problem(self) -> str:
        return "; ".join(entry.problem for entry in self._inputs if entry.problem)

    def check(self) -> None:
        """Look again whether types and QoS of the publishers fit; warn once where they have ceased to."""
        for entry in self._inputs:
            problem = topic_problem(self._node, entry.topic, entry.message_type, entry.subscription.qos_profile)
            if entry.twin and not self._node.count_publishers(entry.topic) and self._node.count_publishers(entry.twin):
                problem = f"nobody publishes {entry.topic}, but {entry.twin} is there: change image_transport"
            if problem and problem != entry.problem:
                self._node.get_logger().warning(problem)
            entry.problem = problem

    def destroy(self) -> None:
        for entry in self._inputs:
            self._node.destroy_subscription(entry.subscription)
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._inputs, self._timer = [], None

    def _listen(self, image_type: str, event_type: str, tick_s: float) -> None:
        if event_type:  # first, so that an executor that finds both ready takes the events before the image
            qos = sensor_qos(_EVENT_DEPTH)
            self._subscribe(message_class(event_type), event_type, "events", qos, self._on_events)
        if image_type == IMAGE:
            self._subscribe(Image, IMAGE, "image", sensor_qos(IMAGE_DEPTH), self._on_image)
        elif image_type == COMPRESSED_IMAGE:
            qos = sensor_qos(IMAGE_DEPTH)
            self._subscribe(CompressedImage, COMPRESSED_IMAGE, "image/compressed", qos, self._on_image)
        else:
            self._timer = self._node.create_timer(tick_s, self._on_tick, callback_group=self._group)

    def _subscribe(self, kind: type, message_type: str, name: str, qos: QoSProfile, callback: Callable) -> None:
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda _: self.check(),
            message_lost=lambda lost: self._statistics.lost(lost.total_count_change),
        )
        options = {
            "callback_group": self._group,
            "qos_overriding_options": QoSOverridingOptions(_POLICIES),
            "raw": True,
        }
        create = self._node.create_subscription
        try:
            subscription = create(kind, name, callback, qos, event_callbacks=events, **options)
        except UnsupportedEventTypeError:  # not every middleware tells; publishers are looked at every second anyway
            subscription = create(kind, name, callback, qos, **options)
        twin = {"image": "image/compressed", "image/compressed": "image"}.get(name, "")
        twin_topic = self._node.resolve_topic_name(twin) if twin else ""
        self._inputs.append(_Input(subscription, subscription.topic_name, message_type, twin_topic))

    def _on_image(self, data: bytes) -> None:
        if not self._enabled():
            return
        self._statistics.arrived(time.monotonic())
        self._mailbox.put_image(RawMessage("image", self._now_ns(), data))

    def _on_events(self, data: bytes) -> None:
        if self._enabled():
            self._mailbox.put_events(RawMessage("events", self._now_ns(), memoryview(data)), len(data))
            if self._timer is not None:
                self._statistics.heard(time.monotonic())

    def _on_tick(self) -> None:
        if self._enabled():
            self._statistics.arrived(None)
            self._mailbox.put_image(EventTick(self._now_ns()))

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds


def message_class(message_type: str) -> type:
    """Raises ImportError where the message package is not installed."""
    package, _, name = message_type.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def chosen_event_type(node: Node, event_source: str) -> str:
    """The message type for the parameter ``event_source``; empty: no events.

    Raises:
        ImportError: a source was named whose message package is not installed.
    """
    if event_source == "none":
        return ""
    if event_source != "auto":
        message_class(EVENT_SOURCES[event_source])
        return EVENT_SOURCES[event_source]
    published = {info.topic_type for info in node.get_publishers_info_by_topic(node.resolve_topic_name("events"))}
    installed = [name for name in EVENT_SOURCES.values() if _installed(name)]
    return next((name for name in installed if name in published), installed[0] if installed else "")


def _installed(message_type: str) -> bool:
    try:
        message_class(message_type)
    except ImportError:
        return False
    return True
