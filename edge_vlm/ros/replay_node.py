# SPDX-License-Identifier: Apache-2.0
"""Publishes the messages of a recording as they were serialised, and hears the captioner's answers."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from edge_vlm.errors import SourceError
from edge_vlm.ros.inputs import message_class
from edge_vlm.ros.messages import rgb_image
from edge_vlm.sources.bag_storage import RawMessage, TopicInfo
from edge_vlm.sources.bag_topics import ChosenTopics
from edge_vlm.sources.compressed_image import decode_compressed_image
from edge_vlm.sources.message_types import (
    COMPRESSED_IMAGE,
    EVENT_PACKET,
    IMAGE,
    PACKET_TYPES,
    deserialised,
    typestore,
)

_POLL_S = 0.05
_CLOCK_PERIOD_S = 0.01


class ReplayNode(Node):
    """``on_step(line)`` gets every line that the captioner publishes on ``~/step``.

    Raises:
        SourceError: the package of the event messages is not installed.
    """

    def __init__(
        self, topics: ChosenTopics, ros1: bool, publishes_clock: bool, as_raw: bool, on_step: Callable[[str], None]
    ) -> None:
        super().__init__("replayer")
        self.topics, self.images, self.steps = topics, 0, 0
        self._ros1, self._on_step = ros1, on_step
        compressed = topics.image.message_type == COMPRESSED_IMAGE
        self._unpacks = compressed and as_raw
        image_type, name = (COMPRESSED_IMAGE, "image/compressed") if compressed and not as_raw else (IMAGE, "image")
        self._image = self._publisher(image_type, name)
        self._events = None if topics.events is None else self._publisher(_event_type(topics.events), "events")
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if publishes_clock else None
        self.create_subscription(String, "captioner/step", self._hear, 1000)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._now_ns = 0

    @property
    def topic_names(self) -> set[str]:
        return {self.topics.image.name} | ({self.topics.events.name} if self.topics.events else set())

    @property
    def image_topic(self) -> str:
        return self._image.topic_name

    def wait_for_captioner(self, timeout_s: float) -> bool:
        """Until somebody subscribes to the images."""
        until_s = time.monotonic() + timeout_s
        while not self._image.get_subscription_count():
            if time.monotonic() > until_s:
                return False
            self.spin_for(_POLL_S)
        self.spin_for(0.5)  # the other topics are found at about the same time
        return True

    def publish(self, message: RawMessage) -> None:
        """In the recorder's order; the clock goes ahead.

        Raises:
            InputError: a compressed image was to be published raw and cannot be decoded.
        """
        self._now_ns = message.receive_ns
        self._tick()
        is_image = message.topic == self.topics.image.name
        info = self.topics.image if is_image else self.topics.events
        data = message.data
        if self._ros1:
            data = bytes(typestore(ros1=True).ros1_to_cdr(data, info.message_type))
        self.images += is_image
        if is_image and self._unpacks:
            data = _unpacked(bytes(data))
        (self._image if is_image else self._events).publish(data if isinstance(data, Image) else bytes(data))

    def wait_for_step(self, timeout_s: float) -> bool:
        """Until as many frames were answered as images were published."""
        until_s = time.monotonic() + timeout_s
        while self.steps < self.images:
            if time.monotonic() > until_s:
                return False
            self._executor.spin_once(_POLL_S)
        return True

    def spin_for(self, duration_s: float) -> None:
        """Listen that long; time passes on /clock."""
        until_s = time.monotonic() + duration_s
        while (left_s := until_s - time.monotonic()) > 0:
            if not rclpy.ok():
                raise KeyboardInterrupt
            before_s = time.monotonic()
            self._executor.spin_once(min(left_s, _CLOCK_PERIOD_S))
            self._pass_time(time.monotonic() - before_s)

    def _pass_time(self, elapsed_s: float) -> None:
        if self._now_ns:
            self._now_ns += int(elapsed_s * 1e9)
            self._tick()

    def _tick(self) -> None:
        if self._clock_publisher is not None:
            sec, nanosec = divmod(self._now_ns, 1_000_000_000)
            self._clock_publisher.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))

    def _publisher(self, message_type: str, name: str):
        try:
            return self.create_publisher(message_class(message_type), name, QoSProfile(depth=1000))
        except ImportError as error:
            package = message_type.partition("/")[0]
            remedy = f"sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}, or --event-topic none"
            raise SourceError(f"{message_type} is not installed: {error}", remedy) from error

    def _hear(self, message: String) -> None:
        self.steps += 1
        self._on_step(message.data)


def _unpacked(data: bytes) -> Image:
    message = deserialised(data, COMPRESSED_IMAGE, ros1=False)
    stamp = message.header.stamp
    image = decode_compressed_image(message.format, message.data)
    return rgb_image(image, stamp.sec * 1_000_000_000 + stamp.nanosec, message.header.frame_id)


def _event_type(topic: TopicInfo) -> str:
    """EventPacket under its former name has the same fields, so the same bytes."""
    return EVENT_PACKET if topic.message_type in PACKET_TYPES else topic.message_type
