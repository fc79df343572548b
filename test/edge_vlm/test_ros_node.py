# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402, F401, F811 - ROS is asked for before it is imported, and fixtures are imported by name
"""The lifecycle node in a real ROS graph: what goes in, what comes out, what it can be asked."""

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")

from lifecycle_msgs.msg import Transition
from ros_graph import SECOND, FakeLive, fake_opener, graph, image_message, stamp_ns
from sensor_msgs.msg import Image
from std_msgs.msg import String


def test_every_image_gets_a_caption_under_its_own_header(graph, tiny_bundle):
    graph.started(bundle=str(tiny_bundle))
    stamps = []
    for number in (1, 2, 3):
        stamps.append(graph.publish_now(grey=60 * number))
        graph.wait(lambda number=number: len(graph.captions) == number)
    assert [stamp_ns(c.header) for c in graph.captions] == stamps
    assert graph.captions[0].header.frame_id == "camera_link"
    assert graph.captions[0].results[0].class_id
    assert 0.0 < graph.captions[0].results[0].score <= 1.0
    status = graph.status("captioning")
    shown = {pair.key: pair.value for pair in status.values}
    assert shown["frames_processed"] == "3"
    assert "of 64" in shown["tokens_computed"]
    assert status.hardware_id == "/image"


def test_last_caption_reaches_those_who_come_late(graph):
    node = graph.started(fake_opener())
    graph.publish(SECOND)
    graph.wait(lambda: node.statistics.captions == 1)
    late = []
    from rclpy.qos import DurabilityPolicy, QoSProfile

    latest = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.client.create_subscription(String, "captioner/caption", late.append, latest)
    graph.wait(lambda: late)
    assert late[0].data == "mean grey 100"


def test_same_stamp_twice_is_one_frame(graph):
    node = graph.started(fake_opener())
    for stamp in (SECOND, SECOND, SECOND, 2 * SECOND):
        graph.publish(stamp)
        received = node.statistics.frames_received
        graph.wait(lambda received=received: node.statistics.frames_received >= received)
    graph.publish(3 * SECOND)
    graph.wait(lambda: graph.captions and stamp_ns(graph.captions[-1].header) == 3 * SECOND)
    stamps = [stamp_ns(caption.header) for caption in graph.captions]
    assert len(stamps) == len(set(stamps)), "one caption for one frame"
    counts = node.statistics
    assert counts.frames_received == counts.frames_processed + counts.frames_dropped + counts.frames_duplicate


def test_annotated_picture_is_drawn_only_for_subscribers(graph, monkeypatch):
    drawn = []
    from edge_vlm.ros import outputs

    real = outputs.annotated
    monkeypatch.setattr(outputs, "annotated", lambda *args: drawn.append(1) or real(*args))
    graph.started(fake_opener())
    graph.publish(SECOND)
    graph.wait(lambda: len(graph.captions) == 1)
    assert not drawn
    pictures, steps = [], []
    graph.client.create_subscription(Image, "captioner/annotated", pictures.append, 1)
    graph.client.create_subscription(String, "captioner/step", steps.append, 1)
    stamps = iter(range(2, 10_000))
    graph.wait(lambda: (graph.publish(next(stamps) * SECOND), pictures and steps)[1])
    assert (pictures[0].encoding, pictures[0].width) == ("rgb8", 32)
    assert '"branch":"sparse"' in steps[0].data


def test_describe_answers_with_the_next_frame(graph):
    from std_srvs.srv import Trigger

    graph.started(fake_opener())
    stamps = iter(range(1, 10_000))
    answer = graph.call(
        Trigger, "captioner/describe", Trigger.Request(), lambda: graph.publish(next(stamps) * SECOND, grey=77)
    )
    assert (answer.success, answer.message) == (True, "mean grey 77")
    assert FakeLive.made[-1].asked == 1


def test_describe_says_why_it_cannot(graph):
    graph.captioner(fake_opener())
    answer = graph.trigger("describe")
    assert not answer.success
    assert "not active" in answer.message


def test_enable_and_reset(graph):
    node = graph.started(fake_opener())
    assert graph.enable(False).success
    graph.publish(SECOND)
    graph.status("switched off")
    assert node.statistics.frames_received == 0
    assert "switched off" in graph.trigger("describe").message
    assert graph.enable(True).success
    assert graph.trigger("reset").success
    graph.publish(2 * SECOND)
    graph.wait(lambda: len(graph.captions) == 1)
    assert FakeLive.made[-1].resets[-1] == "asked for"


def test_parameters_are_checked_with_a_reason(graph):
    graph.started(fake_opener())
    for name, value, reason in (
        ("route", "backwards", "route must be one of auto, full, sparse, shallow; got 'backwards'"),
        ("stale_after_s", -1.0, "stale_after_s"),
        ("bundle", "/elsewhere", "fixed while the node is configured"),
        ("autostart", True, "read"),
    ):
        result = graph.set(name, value)
        assert not result.successful
        assert reason in result.reason
    assert graph.set("caption_max_age_s", 3.0).successful


def test_settings_of_the_pipeline_change_between_two_frames(graph):
    graph.started(fake_opener())
    graph.publish(SECOND)
    graph.wait(lambda: len(graph.captions) == 1)
    for frame, (name, value) in enumerate((("reuse", False), ("variant", "sttf")), start=2):
        assert graph.set(name, value).successful
        graph.publish(frame * SECOND)
        graph.wait(lambda: len(graph.captions) == frame)  # noqa: B023 - called at once
    assert [pipeline.closed for pipeline in FakeLive.made] == [True, True, False]


def test_no_parameter_table_row_without_a_descriptor(graph):
    from edge_vlm.ros.parameters import PARAMETERS

    node = graph.captioner(fake_opener())
    for row in PARAMETERS:
        descriptor = node.describe_parameter(row.name)
        assert descriptor.description == row.description
        assert descriptor.read_only == row.read_only
        if row.low is not None:
            bounds = [*descriptor.floating_point_range, *descriptor.integer_range][0]
            assert (bounds.from_value, bounds.to_value) == (row.low, row.high)


def test_impossible_parameter_at_start_is_one_clear_error(graph):
    from edge_vlm.errors import InputError

    with pytest.raises(InputError, match="route"):
        graph.captioner(fake_opener(), route="backwards")
    with pytest.raises(InputError, match="stale_after_s"):
        graph.captioner(fake_opener(), stale_after_s=-1.0)
    with pytest.raises(InputError, match="threads"):
        graph.captioner(fake_opener(), threads="many")


def test_full_life_cycle_and_back(graph, tiny_bundle):
    node = graph.captioner(bundle=str(tiny_bundle))
    configure, activate = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
    deactivate, clean_up = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
    for _ in range(3):
        assert all(graph.change(transition) for transition in (configure, activate))
        assert node.active
        assert all(graph.change(transition) for transition in (deactivate, clean_up))
        assert not node.active
    graph.status("not configured")


def test_two_cameras_in_one_process(graph):
    from rclpy.qos import qos_profile_sensor_data
    from vision_msgs.msg import Classification

    heard, cameras = {}, {}
    for name, grey in (("front", 50), ("rear", 150)):
        node = graph.captioner(fake_opener(), cli_args=["--ros-args", "-r", f"__ns:=/{name}"])
        heard[name] = []
        cameras[name] = graph.client.create_publisher(Image, f"/{name}/image", qos_profile_sensor_data)
        graph.client.create_subscription(Classification, f"/{name}/captioner/caption_stamped", heard[name].append, 10)
        for transition in (node.trigger_configure, node.trigger_activate):
            task = graph.executor.create_task(transition)
            graph.wait(task.done)
        graph.wait(lambda camera=cameras[name]: camera.get_subscription_count() > 0)
        cameras[name].publish(image_message(SECOND, grey))
    graph.wait(lambda: all(heard.values()))
    assert [heard[name][0].results[0].class_id for name in ("front", "rear")] == ["mean grey 50", "mean grey 150"]
    graph.wait(lambda: {status.name for status in graph.diagnostics} >= {f"/{n}/captioner: captions" for n in heard})
