# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402, F401, F811 - ROS is asked for before it is imported, and fixtures are imported by name
"""The doctor's look at the ROS graph."""

import time

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import SECOND, graph, image_message
from sensor_msgs.msg import Image

from edge_vlm.doctor.check import OK, WARN
from edge_vlm.ros import graph_checks
from edge_vlm.ros.topic_check import qos_words


@pytest.fixture
def seen(graph, monkeypatch):
    """Runs the checks in the graph's domain."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.context.get_domain_id()))
    monkeypatch.setattr(graph_checks, "DISCOVERY_S", 0.7)
    return lambda *topics: [(check.name, check.status, check.detail) for check in graph_checks.checks(*topics)]


def test_topic_that_matches_and_stamps_that_are_old(graph, seen):
    timer = graph.client.create_timer(0.05, lambda: graph.images.publish(image_message(5 * SECOND)))
    found = seen("/image")
    graph.client.destroy_timer(timer)
    assert found[1][:2] == ("image topic", OK)
    assert "/image (sensor_msgs/msg/Image): /client offers best_effort, volatile; this matches" in found[1][2]
    name, status, detail = found[-1]
    assert (name, status) == ("clock", WARN)
    assert "behind this machine's clock" in detail


def test_fresh_stamps_are_fine(graph, seen):
    timer = graph.client.create_timer(0.05, lambda: graph.images.publish(image_message(time.time_ns())))
    found = seen("image")
    graph.client.destroy_timer(timer)
    assert found[-1][:2] == ("clock", OK)
    assert "ms old on arrival" in found[-1][2]


def test_absent_topic_and_sim_time(graph, seen):
    from rosgraph_msgs.msg import Clock

    graph.client.create_publisher(Clock, "/clock", 1)
    found = seen("/nowhere/image", "/events")
    assert found[1] == ("image topic", WARN, "/nowhere/image: nobody publishes it")
    assert found[2] == ("events topic", WARN, "/events: nobody publishes it")
    assert "use_sim_time" not in found[-1][2] and found[-1][1] == WARN


def test_unnamed_topics_are_found_by_type(graph, seen):
    reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.client.create_publisher(Image, "/rear/image_raw", reliable)
    found = seen()
    topics = [detail for name, _, detail in found if name == "image topic"]
    assert any(detail.startswith("/rear/image_raw") and qos_words(reliable) in detail for detail in topics)
