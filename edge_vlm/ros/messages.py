# SPDX-License-Identifier: Apache-2.0
"""Reports of the pipeline as ROS messages."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Classification, ObjectHypothesis

from edge_vlm.step_report import StepReport


def header(stamp_ns: int, frame_id: str) -> Header:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def caption_text(report: StepReport) -> String:
    return String(data=report.caption.text)


def stamped_caption(report: StepReport) -> Classification:
    """The caption with its score, under the header of the frame of this report.

    Where the caption was not decoded anew, the pipeline has looked at this frame and found that it still holds.
    """
    hypothesis = ObjectHypothesis(class_id=report.caption.text, score=float(report.caption.score))
    return Classification(header=header(report.stamp_ns, report.frame_id), results=[hypothesis])


def rgb_image(image: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """uint8 (height, width, 3) as rgb8."""
    height, width = image.shape[:2]
    message = Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", image.tobytes())  # other types are checked byte by byte
    return message
