# SPDX-License-Identifier: Apache-2.0
"""What the node publishes of a report."""

from __future__ import annotations

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import Classification

from edge_vlm.live.annotation import annotated
from edge_vlm.observation import Observation
from edge_vlm.replay.record import frame_record, to_line
from edge_vlm.ros.messages import caption_text, rgb_image, stamped_caption
from edge_vlm.step_report import StepReport

_LATEST = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishers below the node's name; silent while the node is not active.

    ``~/caption``: new captions, the last one also to those who come later. ``~/caption_stamped``: one for every frame.
    ``~/step``: every figure of the frame, a line of captions.jsonl; like ``~/annotated`` only while somebody
    subscribes.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        own = {"callback_group": MutuallyExclusiveCallbackGroup()}  # the node's would remember them for good
        self._caption = node.create_lifecycle_publisher(String, "~/caption", _LATEST, **own)
        self._stamped = node.create_lifecycle_publisher(Classification, "~/caption_stamped", 10, **own)
        self._step = node.create_lifecycle_publisher(String, "~/step", 10, **own)
        self._annotated = node.create_lifecycle_publisher(Image, "~/annotated", 1, **own)

    def publish(self, observation: Observation, report: StepReport, unchanged_too: bool) -> None:
        """May be called on any thread."""
        if report.caption is not None and report.caption_refreshed:
            self._caption.publish(caption_text(report))
        if report.caption is not None and (report.caption_refreshed or unchanged_too):
            self._stamped.publish(stamped_caption(report))
        if self._step.get_subscription_count():
            self._step.publish(String(data=to_line(frame_record(observation, report)).decode()))
        if self._annotated.get_subscription_count():
            picture = annotated(observation, report)
            self._annotated.publish(rgb_image(picture, report.stamp_ns, report.frame_id))

    def destroy(self) -> None:
        for publisher in (self._caption, self._stamped, self._step, self._annotated):
            self._node.destroy_lifecycle_publisher(publisher)
