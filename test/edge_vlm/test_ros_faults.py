# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402, F401, F811 - ROS is asked for before it is imported, and fixtures are imported by name
"""What goes wrong on a robot: the node says it, stays alive, and goes on once it is mended."""

import gc
import os
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")

from lifecycle_msgs.msg import Transition
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import SECOND, FakeLive, fake_opener, graph, image_message, stamp_ns
from sensor_msgs.msg import BatteryState, CompressedImage, Image
from std_msgs.msg import Float32

from edge_vlm.meters import rss_mb
from edge_vlm.ros.diagnostics import ERROR, OK, STALE, WARN
from edge_vlm.ros.inputs import UnsupportedEventTypeError

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


def test_camera_dies_and_returns(graph):
    node = graph.started(fake_opener(), stale_after_s=0.3)
    assert graph.status("no image has arrived yet").level == STALE
    graph.publish_now()
    graph.wait(lambda: len(graph.captions) == 1)
    assert graph.status("no image for").level == STALE
    assert node.statistics.frames_processed == 1, "a dead camera's last frame is not captioned again"
    assert graph.set("stale_after_s", 5.0).successful
    graph.publish_now()
    assert graph.status("captioning").level == OK
    published = [stamp_ns(caption.header) for caption in graph.captions]
    assert len(published) == len(set(published))


def test_qos_mismatch_names_both_sides(graph):
    overrides = {"qos_overrides./image.subscription.reliability": "reliable"}
    node = graph.captioner(fake_opener(), overrides=overrides)
    assert graph.change(CONFIGURE)
    assert graph.change(ACTIVATE)
    status = graph.status("nothing arrives")
    assert status.level == WARN
    assert "/client offers best_effort" in status.message
    assert "this node requests reliable" in status.message
    assert "qos_overrides./image.subscription" in status.message
    assert node.statistics.frames_received == 0


def test_impossible_qos_override_fails_to_activate_and_the_node_lives(graph):
    node = graph.captioner(fake_opener(), overrides={"qos_overrides./image.subscription.reliability": "sometimes"})
    assert graph.change(CONFIGURE)
    assert not graph.change(ACTIVATE)
    assert not node.active
    assert not list(node.subscriptions)
    assert graph.status("configured, not active").level == WARN


def test_middleware_that_tells_no_events_of_its_own(graph, monkeypatch):
    node = graph.captioner(fake_opener(), overrides={"qos_overrides./image.subscription.reliability": "reliable"})
    create = node.create_subscription

    def without_events(*arguments, **options):
        if "event_callbacks" in options:
            raise UnsupportedEventTypeError("not supported")
        return create(*arguments, **options)

    monkeypatch.setattr(node, "create_subscription", without_events)
    assert graph.change(CONFIGURE)
    assert graph.change(ACTIVATE)
    assert graph.status("nothing arrives").level == WARN


def test_wrong_message_type_is_told(graph):
    graph.client.create_publisher(CompressedImage, "front/image", 1)
    graph.captioner(fake_opener(), cli_args=["--ros-args", "-r", "image:=front/image"])
    assert graph.change(CONFIGURE)
    assert graph.change(ACTIVATE)
    status = graph.status("is published by /client as sensor_msgs/msg/CompressedImage")
    assert status.level == WARN


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_bad_bundle_fails_to_configure_and_can_be_mended(graph, tiny_bundle, tmp_path, damage):
    bundle = tmp_path / "bundle"
    if damage == "cut":
        shutil.copytree(tiny_bundle, bundle)
        os.truncate(bundle / "vision.tflite", 1000)
    node = graph.captioner(bundle=str(bundle))
    assert not graph.change(CONFIGURE)
    status = graph.status("not configured: ")
    assert status.level == ERROR
    assert str(bundle) in status.message
    assert not node.active
    assert graph.set("bundle", str(tiny_bundle)).successful
    assert graph.change(CONFIGURE)
    assert graph.change(ACTIVATE)
    graph.wait(lambda: graph.images.get_subscription_count() > 0)
    graph.publish(SECOND)
    graph.wait(lambda: len(graph.captions) == 1)


def test_clock_that_jumps_back_resets_and_goes_on(graph, tiny_bundle):
    node = graph.started(bundle=str(tiny_bundle))
    for stamp in (100 * SECOND, 101 * SECOND, 5 * SECOND, 6 * SECOND):
        graph.publish(stamp)
        graph.wait(lambda stamp=stamp: graph.captions and stamp_ns(graph.captions[-1].header) == stamp)
    assert node.statistics.resets == 1
    assert len(graph.captions) == 4


def test_image_size_may_change_in_the_stream(graph, tiny_bundle):
    node = graph.started(bundle=str(tiny_bundle))
    for number, size in enumerate(((24, 32), (24, 32), (48, 64), (17, 31)), start=1):
        graph.publish(number * SECOND, size=size)
        graph.wait(lambda number=number: len(graph.captions) == number)
    assert node.statistics.resets == 2


def test_undecodable_images_are_counted_and_named(graph):
    node = graph.started(fake_opener())
    graph.publish(SECOND, encoding="thermal99")
    graph.wait(lambda: sum(node.statistics.frames_rejected.values()) == 1)
    status = graph.status("unknown image encoding 'thermal99'")
    assert status.level == WARN
    graph.publish(2 * SECOND)
    graph.wait(lambda: len(graph.captions) == 1)


def test_worker_exception_restarts_the_pipeline_and_the_node_goes_on(graph):
    node = graph.started(fake_opener(fail={1: RuntimeError("the engine broke")}))
    graph.publish_now()
    graph.wait(lambda: len(graph.captions) == 1)
    graph.publish_now()
    graph.wait(lambda: node.statistics.frames_failed == 1)
    status = graph.status("RuntimeError: the engine broke")
    assert status.level == ERROR
    graph.publish_now()
    graph.wait(lambda: len(graph.captions) == 2)
    first, second = FakeLive.made
    assert first.closed and not second.closed
    assert graph.status("captioning").level == OK


def test_deactivate_during_an_inference(graph):
    node = graph.started(fake_opener(delay_s=0.5))
    graph.publish(SECOND)
    graph.wait(lambda: node.statistics.frames_received == 1)
    started = time.monotonic()
    assert graph.change(DEACTIVATE)
    assert time.monotonic() - started < 1.0
    assert graph.change(CLEANUP)
    graph.wait(lambda: FakeLive.made[0].closed)
    time.sleep(0.1)
    assert not graph.captions, "a node that is not active publishes nothing"


def test_describe_is_answered_when_the_node_is_deactivated(graph):
    from std_srvs.srv import Trigger

    graph.started(fake_opener())
    client = graph.client.create_client(Trigger, "captioner/describe")
    assert client.wait_for_service(5.0)
    future = client.call_async(Trigger.Request())
    time.sleep(0.1)
    assert graph.change(DEACTIVATE)
    graph.wait(future.done)
    assert "deactivated" in future.result().message


def test_frames_of_another_time_are_told(graph):
    graph.started(fake_opener())
    graph.publish(5 * SECOND)
    assert "s old when they are described" in graph.status("synchronise the clocks").message


def test_sim_time_without_a_clock_and_with_one(graph):
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    node = graph.started(fake_opener(), use_sim_time=True)
    assert graph.status("no image has arrived yet").level == STALE
    clock = graph.client.create_publisher(Clock, "/clock", 1)
    graph.wait(lambda: (clock.publish(Clock(clock=Time(sec=100))), node.get_clock().now().nanoseconds > 0)[1])
    graph.publish(99 * SECOND)
    graph.wait(lambda: len(graph.captions) == 1)
    assert node.statistics.frame_age_ms(50) == pytest.approx(1000.0)
    assert graph.status("captioning").level == OK


def test_newest_frame_wins_and_every_frame_is_accounted_for(graph):
    node = graph.started(fake_opener(delay_s=0.05), overrides={"qos_overrides./image.subscription.depth": 100})
    for number in range(1, 31):
        graph.publish(number * SECOND)
    counts = node.statistics
    graph.wait(lambda: counts.frames_received == 30 and counts.frames_processed + counts.frames_dropped == 30)
    assert counts.frames_dropped > 0
    graph.wait(lambda: stamp_ns(graph.captions[-1].header) == 30 * SECOND)


def test_thousand_lifecycle_cycles_leave_nothing_behind(graph):
    node = graph.captioner(fake_opener())
    set_logger_level("captioner", LoggingSeverity.WARN)
    for cycle in range(1000):
        closed, FakeLive.made[:] = list(FakeLive.made), []
        for change in ("configure", "activate", "deactivate", "cleanup"):
            on_executor(graph, getattr(node, f"trigger_{change}"))
        if cycle == 200:
            before_mb, before_threads, before_objects = rss_mb(), threads(), objects()
    assert threads() <= before_threads
    assert len(list(node.subscriptions)) == 0
    assert objects() - before_objects < 800, "less than one object a cycle"
    assert rss_mb() - before_mb < 8.0, "the middleware keeps a few kB a cycle"
    assert all(pipeline.closed for pipeline in closed)


def on_executor(graph, call):
    """Transitions run on the executor's thread, as they do when a service asks for them."""
    task = graph.executor.create_task(call)
    graph.wait(task.done)
    return task.result()


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_event_camera_alone(graph, tiny_bundle):
    messages = pytest.importorskip("event_camera_msgs.msg", reason="event_camera_msgs is not installed")
    node = graph.captioner(bundle=str(tiny_bundle), image_transport="none", event_frame_rate_hz=20.0)
    packets = graph.client.create_publisher(messages.EventPacket, "events", 100)
    assert graph.change(CONFIGURE)
    assert graph.change(ACTIVATE)
    graph.wait(lambda: packets.get_subscription_count() > 0)
    for number in range(100):
        packets.publish(mono_packet(messages, number))
        if graph.captions:
            break
        time.sleep(0.03)
    assert graph.captions[0].header.frame_id == "events"
    assert node.statistics.frames_processed > 0


def test_events_and_images_go_together(graph, tiny_bundle):
    messages = pytest.importorskip("event_camera_msgs.msg", reason="event_camera_msgs is not installed")
    from std_msgs.msg import String

    steps = []
    graph.client.create_subscription(String, "captioner/step", steps.append, 10)
    packets = graph.client.create_publisher(messages.EventPacket, "events", 100)
    graph.started(bundle=str(tiny_bundle))
    graph.wait(lambda: packets.get_subscription_count() > 0)
    stamps = iter(range(1, 10_000))
    numbers = iter(range(10_000))

    def publish_both():
        packets.publish(mono_packet(messages, next(numbers)))
        graph.publish(next(stamps) * SECOND)
        time.sleep(0.02)
        return any('"events":{"total":' in step.data and '"total":0' not in step.data for step in steps)

    graph.wait(publish_both)


def test_dvs_event_arrays(graph, tiny_bundle):
    messages = pytest.importorskip("dvs_msgs.msg", reason="dvs_msgs is not installed")
    arrays = graph.client.create_publisher(messages.EventArray, "events", 100)
    node = graph.started(bundle=str(tiny_bundle), event_source="event_array")
    graph.wait(lambda: arrays.get_subscription_count() > 0)
    array = messages.EventArray(
        width=32, height=24, events=[messages.Event(x=x, y=5, polarity=True) for x in range(20)]
    )

    def counted():
        arrays.publish(array)
        graph.publish_now()
        time.sleep(0.02)
        return node.statistics.frames_processed > 3 and any(
            pair.key == "events" and int(pair.value) >= 20 for s in graph.diagnostics for pair in s.values
        )

    graph.wait(counted)


def mono_packet(messages, seq: int):
    """One event on each pixel of row 5 in the encoding ``mono``: bits 0..31 time, 32..47 x, 48..62 y, 63 polarity."""
    words = (np.uint64(5) << np.uint64(48)) | (np.arange(32, dtype="<u8") << np.uint64(32))
    packet = messages.EventPacket(width=32, height=24, seq=seq, encoding="mono", time_base=seq)
    packet.events = words.tobytes()
    return packet


@pytest.mark.parametrize("choice, topic", [("power_topic", "power"), ("battery_topic", "battery_state")])
def test_energy_from_a_topic(graph, tiny_bundle, choice, topic):
    kind = {"power": Float32, "battery_state": BatteryState}[topic]
    watts = graph.client.create_publisher(kind, topic, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    node = graph.started(bundle=str(tiny_bundle), energy=choice)
    graph.publish(time.time_ns())
    graph.wait(lambda: node.statistics.frames_processed == 1)
    assert node.statistics.energy.joules is None
    assert "none has come" in node.statistics.energy.note
    assert graph.status("no energy of the last frame").level == WARN
    graph.wait(lambda: watts.get_subscription_count() > 0)
    message = Float32(data=12.0) if topic == "power" else BatteryState(voltage=24.0, current=-0.5)
    stamps = iter(range(2, 10_000))

    def measured():
        watts.publish(message)
        graph.publish(next(stamps) * SECOND)
        time.sleep(0.02)
        return node.statistics.energy.joules is not None

    graph.wait(measured)
    report = node.statistics.last_report
    assert report.energy.source == f"topic /{topic}"
    assert report.energy.joules == pytest.approx(12.0 * report.total_ms * 1e-3, rel=0.2)
