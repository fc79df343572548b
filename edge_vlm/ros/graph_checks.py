# SPDX-License-Identifier: Apache-2.0
"""The doctor's look at the ROS graph: who publishes images and events, whether they reach us, and whose time it is."""

from __future__ import annotations

import os
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from edge_vlm.doctor.check import OK, WARN, Check
from edge_vlm.ros.inputs import DVS_EVENT_ARRAY, message_class, sensor_qos
from edge_vlm.ros.topic_check import publisher_name, qos_words, topic_problem
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE, deserialised

DISCOVERY_S = 1.5
_STAMP_WAIT_S = 1.0
_SKEW_S = 1.0
_KINDS = {"image": (IMAGE, COMPRESSED_IMAGE), "events": (EVENT_PACKET, DVS_EVENT_ARRAY)}


def checks(image: str | None = None, events: str | None = None) -> list[Check]:
    """Looks at the named topics, or at all that carry images or events."""
    context = Context()
    rclpy.init(context=context)
    try:
        node = Node("edge_vlm_doctor", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        _spin(executor, DISCOVERY_S)
        found = [_graph(), *_topic_checks(node, image, "image"), *_topic_checks(node, events, "events")]
        found.append(_clock(node, executor, image))
        node.destroy_node()
        executor.shutdown()
        return found
    finally:
        rclpy.shutdown(context=context)


def _graph() -> Check:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    return Check("ros graph", OK, f"{get_rmw_implementation_identifier()}, domain {domain}, discovery {reach.lower()}")


def _topic_checks(node: Node, named: str | None, kind: str) -> list[Check]:
    types = _KINDS[kind]
    if named is not None:
        return [_one_topic(node, node.resolve_topic_name(named), types, kind)]
    carrying = [
        name
        for name, published in node.get_topic_names_and_types()
        if set(published) & set(types) and node.count_publishers(name)
    ]
    if carrying:
        return [_one_topic(node, name, types, kind) for name in carrying]
    if kind == "events":
        return [Check("events topic", OK, "none published; an event camera is optional")]
    return [Check("image topic", WARN, "nobody publishes images", "start the camera driver, in the same ROS_DOMAIN_ID")]


def _one_topic(node: Node, topic: str, types: tuple[str, ...], kind: str) -> Check:
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        remedy = "start its driver; ros2 topic list shows what is there"
        return Check(f"{kind} topic", WARN, f"{topic}: nobody publishes it", remedy)
    fitting = next((info.topic_type for info in publishers if info.topic_type in types), types[0])
    problem = topic_problem(node, topic, fitting, sensor_qos(1))
    if problem:
        return Check(f"{kind} topic", WARN, problem, "see above; qos_overrides parameters change our side")
    offers = "; ".join(f"{publisher_name(info)} offers {qos_words(info.qos_profile)}" for info in publishers)
    return Check(f"{kind} topic", OK, f"{topic} ({fitting}): {offers}; this matches what we request")


def _clock(node: Node, executor: SingleThreadedExecutor, image: str | None) -> Check:
    if node.count_publishers("/clock"):
        detail = "/clock is published: simulation or replay"
        return Check("clock", WARN, detail, "nodes need use_sim_time:=true, or they take old stamps for delay")
    skew_s = _stamp_skew_s(node, executor, image)
    if skew_s is None:
        return Check("clock", OK, "system time; no image came to compare stamps with")
    if abs(skew_s) > _SKEW_S:
        direction = "behind" if skew_s > 0 else "ahead of"
        remedy = "synchronise the clocks of camera and computer (chrony, PTP); frame_age_ms is wrong until then"
        return Check("clock", WARN, f"image stamps are {abs(skew_s):.1f} s {direction} this machine's clock", remedy)
    return Check("clock", OK, f"system time; image stamps are {skew_s * 1e3:.0f} ms old on arrival")


def _stamp_skew_s(node: Node, executor: SingleThreadedExecutor, image: str | None) -> float | None:
    """Now minus the stamp of one image; None where none comes within a second."""
    ages: list[float] = []
    for name, published in node.get_topic_names_and_types():
        kind = next((kind for kind in _KINDS["image"] if kind in published), None)
        if kind is None or (image is not None and name != node.resolve_topic_name(image)):
            continue
        node.create_subscription(
            message_class(kind), name, lambda data, kind=kind: ages.append(_age_s(data, kind)), sensor_qos(1), raw=True
        )
    until_s = time.monotonic() + _STAMP_WAIT_S
    while not ages and time.monotonic() < until_s:
        executor.spin_once(0.05)
    return ages[0] if ages else None


def _age_s(data: bytes, kind: str) -> float:
    stamp = deserialised(data, kind, ros1=False).header.stamp
    return time.time() - stamp.sec - stamp.nanosec * 1e-9


def _spin(executor: SingleThreadedExecutor, duration_s: float) -> None:
    until_s = time.monotonic() + duration_s
    while time.monotonic() < until_s:
        executor.spin_once(0.05)
