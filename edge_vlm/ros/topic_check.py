# SPDX-License-Identifier: Apache-2.0
"""Whether publishers of a topic can reach a subscriber: type and QoS, both sides named."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo


def qos_words(qos: QoSProfile) -> str:
    """Reliability and durability, the two that keep publishers and subscribers apart."""
    return f"{qos.reliability.name.lower()}, {qos.durability.name.lower()}"


def publisher_name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def topic_problem(node: Node, topic: str, message_type: str, qos: QoSProfile) -> str:
    """Why messages on ``topic`` cannot arrive, naming topic, publisher, both sides and the remedy; empty if they can.

    ``message_type`` as ROS writes it ("sensor_msgs/msg/Image"). Nobody publishing is no problem of type or QoS.
    """
    for info in node.get_publishers_info_by_topic(topic):
        if info.topic_type != message_type:
            return (
                f"{topic} is published by {publisher_name(info)} as {info.topic_type}, but {message_type} is expected; "
                "check image_transport and event_source, or the remapping"
            )
        compatibility, _ = qos_check_compatible(info.qos_profile, qos)
        if compatibility == QoSCompatibility.ERROR:
            return (
                f"{topic}: publisher {publisher_name(info)} offers {qos_words(info.qos_profile)}, this node requests "
                f"{qos_words(qos)}: nothing arrives; change either side "
                f"(parameters qos_overrides.{topic}.subscription.*)"
            )
    return ""
