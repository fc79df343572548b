# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - ROS is asked for before it is imported
"""A ROS graph for one test: the captioner and a client that talks to it, each call with a deadline."""

from __future__ import annotations

import array
import itertools
import os
import threading
import time

import numpy as np
import pytest
from conftest import FakePipeline

rclpy = pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 setup file to run these tests")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification

from edge_vlm.ros.messages import header
from edge_vlm.ros.node import CaptionerNode

SECOND = 1_000_000_000
DEADLINE_S = 10.0
_domains = itertools.count(os.getpid() % 60)


class FakeLive(FakePipeline):
    """A pipeline without a model that can be slow, fail, and be reset; ``made`` are all that were opened."""

    made: list[FakeLive] = []

    def __init__(self, delay_s: float = 0.0, fail: dict | None = None) -> None:
        super().__init__(every=1, fail=fail)
        self.delay_s = delay_s
        self.resets: list[str] = []
        self.asked = 0
        FakeLive.made.append(self)

    def step(self, observation):
        if observation.stamp_ns > 1:  # not the picture of the self-test
            time.sleep(self.delay_s)
            return super().step(observation)
        self.steps -= 1
        try:
            return super().step(observation) if -1 not in self.fail else self._raise(-1)
        finally:
            self.steps = max(self.steps, 0)

    def _raise(self, number: int):
        raise self.fail[number]

    def reset(self, reason: str) -> None:
        self.resets.append(reason)

    def request_caption(self, question: str | None = None) -> None:
        self.asked += 1


def fake_opener(**options):
    """For ``CaptionerNode(open_pipeline=...)``."""
    FakeLive.made = []
    return lambda parameters, open_meter, say, warn: lambda: FakeLive(**options)


class Graph:
    """``captioner`` and ``client`` spin on one thread; the test talks from its own."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=next(_domains) % 100)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.client = Node("client", context=self.context)
        self.executor.add_node(self.client)
        self.nodes: list[CaptionerNode] = []
        self.captions: list[Classification] = []
        self.diagnostics: list = []
        self.client.create_subscription(Classification, "captioner/caption_stamped", self.captions.append, 100)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.images = self.client.create_publisher(Image, "image", qos_profile_sensor_data)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def captioner(self, open_pipeline=None, **parameters) -> CaptionerNode:
        """A node that is still unconfigured. Parameter names with dots: pass them in ``overrides``."""
        overrides = parameters.pop("overrides", {}) | {"autostart": False} | parameters
        options = {"cli_args": parameters.pop("cli_args")} if "cli_args" in parameters else {}
        overrides.pop("cli_args", None)
        values = [Parameter(name, value=value) for name, value in overrides.items()]
        node = CaptionerNode(open_pipeline=open_pipeline, context=self.context, parameter_overrides=values, **options)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def started(self, open_pipeline=None, **parameters) -> CaptionerNode:
        """A node that is active and hears the client."""
        node = self.captioner(open_pipeline, **parameters)
        assert self.change(Transition.TRANSITION_CONFIGURE)
        assert self.change(Transition.TRANSITION_ACTIVATE)
        self.wait(lambda: self.images.get_subscription_count() > 0)
        return node

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "captioner/change_state", request).success

    def trigger(self, name: str) -> Trigger.Response:
        return self.call(Trigger, f"captioner/{name}", Trigger.Request())

    def enable(self, on: bool) -> SetBool.Response:
        return self.call(SetBool, "captioner/enable", SetBool.Request(data=on))

    def set(self, name: str, value):
        """The result of setting one parameter: ``successful`` and ``reason``."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, "captioner/set_parameters", request).results[0]

    def call(self, kind, name: str, request, while_waiting=lambda: None):
        client = self.client.create_client(kind, name)
        try:
            assert client.wait_for_service(DEADLINE_S), name
            future = client.call_async(request)
            self.wait(lambda: (while_waiting(), future.done())[1])
            return future.result()
        finally:
            self.executor.create_task(self.client.destroy_client, client)

    def publish_now(self, grey: int = 100) -> int:
        """An image stamped with the time that it is; returns its stamp."""
        stamp_ns = time.time_ns()
        self.publish(stamp_ns, grey)
        return stamp_ns

    def publish(self, stamp_ns: int, grey: int = 100, encoding: str = "rgb8", size: tuple[int, int] = (24, 32)) -> None:
        self.images.publish(image_message(stamp_ns, grey, encoding, size))

    def status(self, message_part: str, within_s: float = DEADLINE_S):
        """The next diagnostic status whose message holds ``message_part``."""
        seen = len(self.diagnostics)
        self.wait(lambda: any(message_part in s.message for s in self.diagnostics[seen:]), within_s, self._last_status)
        return next(s for s in self.diagnostics[seen:] if message_part in s.message)

    def wait(self, condition, within_s: float = DEADLINE_S, state=lambda: "") -> None:
        until = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until, f"not within {within_s} s {state()}"
            time.sleep(0.005)

    def close(self) -> None:
        self.executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        for node in self.nodes:
            node.stop()
            node.destroy_node()
        self.client.destroy_node()
        rclpy.shutdown(context=self.context)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.extend(status for status in message.status if status.name.endswith("captions"))

    def _last_status(self) -> str:
        return self.diagnostics[-1].message if self.diagnostics else "no diagnostics"


def image_message(stamp_ns: int, grey: int = 100, encoding: str = "rgb8", size: tuple[int, int] = (24, 32)) -> Image:
    height, width = size
    message = Image(header=header(stamp_ns, "camera_link"), height=height, width=width, encoding=encoding)
    message.step = 3 * width
    message.data = array.array("B", np.full(height * width * 3, grey, np.uint8).tobytes())
    return message


def stamp_ns(head: Header) -> int:
    return head.stamp.sec * SECOND + head.stamp.nanosec


@pytest.fixture
def graph():
    made = Graph()
    yield made
    made.close()
