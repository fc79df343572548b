# SPDX-License-Identifier: Apache-2.0
"""captions.mcap: a run as a ROS 2 recording that Foxglove and rosbag2 open.

Topics, all stamped with the image's own stamp:

    /edge_vlm/image        sensor_msgs/CompressedImage       the frame as JPEG, at most 640 pixels wide
    /edge_vlm/annotations  foxglove_msgs/ImageAnnotations    caption and branch, a dot on every computed patch
    /edge_vlm/caption      std_msgs/String                   the caption, when it was decoded anew
    /edge_vlm/step         edge_vlm_msgs/Step                every figure of the frame, to be plotted

In Foxglove: open the file, add an Image panel (topic /edge_vlm/image, annotations /edge_vlm/annotations) and a Plot
panel (for example /edge_vlm/step.tokens_computed). Schemas are inside the file; nothing has to be installed.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from edge_vlm.observation import Observation
from edge_vlm.replay.line_file import cannot_write
from edge_vlm.step_report import StepReport

MAX_WIDTH = 640
JPEG_QUALITY = 80
_IMAGE, _STRING = "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
_ANNOTATIONS, _STEP = "foxglove_msgs/msg/ImageAnnotations", "edge_vlm_msgs/msg/Step"
TOPICS = {
    "/edge_vlm/image": _IMAGE,
    "/edge_vlm/annotations": _ANNOTATIONS,
    "/edge_vlm/caption": _STRING,
    "/edge_vlm/step": _STEP,
}
_POINTS = 1  # PointsAnnotation: separate points
_DEFINITIONS = {
    _STEP: """\
std_msgs/Header header
string caption
float32 score
bool caption_refreshed
string branch
string branch_reason
uint32 tokens_computed
uint32 tokens_total
float32 tokens_reused_percent
float32 latency_ms
float32 staleness_ms
# NaN where no sensor could measure it
float64 energy_j
string energy_source
""",
    "foxglove_msgs/msg/Point2": "float64 x\nfloat64 y\n",
    "foxglove_msgs/msg/Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n",
    "foxglove_msgs/msg/CircleAnnotation": """\
builtin_interfaces/Time timestamp
foxglove_msgs/Point2 position
float64 diameter
float64 thickness
foxglove_msgs/Color fill_color
foxglove_msgs/Color outline_color
""",
    "foxglove_msgs/msg/PointsAnnotation": """\
uint8 POINTS=1
builtin_interfaces/Time timestamp
uint8 type
foxglove_msgs/Point2[] points
foxglove_msgs/Color outline_color
foxglove_msgs/Color[] outline_colors
foxglove_msgs/Color fill_color
float64 thickness
""",
    "foxglove_msgs/msg/TextAnnotation": """\
builtin_interfaces/Time timestamp
foxglove_msgs/Point2 position
string text
float64 font_size
foxglove_msgs/Color text_color
foxglove_msgs/Color background_color
""",
    _ANNOTATIONS: """\
foxglove_msgs/CircleAnnotation[] circles
foxglove_msgs/PointsAnnotation[] points
foxglove_msgs/TextAnnotation[] texts
""",
}


@cache
def _types() -> Typestore:
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(
        {name: fields for n, text in _DEFINITIONS.items() for name, fields in get_types_from_msg(text, n).items()}
    )
    return store


class CaptionsMcap:
    """Written under a temporary name; ``finish`` completes and renames it, ``abandon`` removes it.

    Raises:
        OutputError: the file cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.partial")
        self._store = _types()
        try:
            self._stream = self._temporary.open("wb")
            self._writer = Writer(self._stream, compression=CompressionType.ZSTD)
            self._writer.start(profile="ros2", library="edge_vlm")
            self._channels = {topic: self._register(topic, kind) for topic, kind in TOPICS.items()}
        except OSError as error:
            raise cannot_write(path, error) from error

    def add(self, observation: Observation, report: StepReport) -> None:
        """One frame and what was said of it."""
        image = _scaled(observation.frame.image)
        messages = {"/edge_vlm/image": self._image(image, report), "/edge_vlm/step": self._step(report)}
        messages["/edge_vlm/annotations"] = self._annotations(report, image.shape[1], image.shape[0])
        if report.caption is not None and report.caption_refreshed:
            messages["/edge_vlm/caption"] = self._store.types[_STRING](report.caption.text)
        try:
            for topic, message in messages.items():
                data = bytes(self._store.serialize_cdr(message, TOPICS[topic]))
                stamp_ns = max(report.stamp_ns, 0)
                self._writer.add_message(self._channels[topic], stamp_ns, data, stamp_ns, report.index)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def finish(self) -> None:
        try:
            self._writer.finish()
            self._stream.close()
            self._temporary.replace(self.path)
        except OSError as error:
            self.abandon()
            raise cannot_write(self.path, error) from error

    def abandon(self) -> None:
        self._temporary.unlink(missing_ok=True)
        try:
            self._stream.close()
        except OSError:  # what is left in its buffer finds no room; the file is gone anyway
            return

    def _register(self, topic: str, message_type: str) -> int:
        definition, _ = self._store.generate_msgdef(message_type, ros_version=2)
        schema = self._writer.register_schema(message_type, "ros2msg", definition.encode())
        return self._writer.register_channel(topic, "cdr", schema)

    def _header(self, report: StepReport):
        return self._store.types["std_msgs/msg/Header"](self._time(report), report.frame_id)

    def _time(self, report: StepReport):
        return self._store.types["builtin_interfaces/msg/Time"](*divmod(report.stamp_ns, 1_000_000_000))

    def _image(self, image: np.ndarray, report: StepReport):
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return self._store.types[_IMAGE](self._header(report), "jpeg", data.reshape(-1))

    def _step(self, report: StepReport):
        caption, joules = report.caption, report.energy.joules
        reused = 1.0 - report.tokens_computed / report.tokens_total if report.tokens_total else 0.0
        return self._store.types[_STEP](
            self._header(report),
            caption.text if caption else "",
            caption.score if caption else math.nan,
            report.caption_refreshed,
            report.branch,
            report.branch_reason,
            report.tokens_computed,
            report.tokens_total,
            100.0 * reused,
            report.total_ms,
            report.staleness_ms,
            math.nan if joules is None else joules,
            report.energy.source,
        )

    def _annotations(self, report: StepReport, width: int, height: int):
        types, time = self._store.types, self._time(report)
        point, colour = types["foxglove_msgs/msg/Point2"], types["foxglove_msgs/msg/Color"]
        rows, columns = report.active.shape
        dots = [
            point((column + 0.5) * width / columns, (row + 0.5) * height / rows)
            for row, column in zip(*np.nonzero(report.active), strict=True)
        ]
        green, white, black, clear = (
            colour(0.2, 1, 0.4, 0.9),
            colour(1, 1, 1, 1),
            colour(0, 0, 0, 0.6),
            colour(0, 0, 0, 0),
        )
        computed = types["foxglove_msgs/msg/PointsAnnotation"](
            time, _POINTS, dots, green, [], clear, max(2.0, width / 80)
        )
        text = types["foxglove_msgs/msg/TextAnnotation"]
        size = max(10.0, width / 28)
        state = f"{report.branch} {report.tokens_computed}/{report.tokens_total}  {report.total_ms:.0f} ms"
        said = report.caption.text if report.caption else "(no caption yet)"
        texts = [
            text(time, point(4, height - 4), said, size, white, black),
            text(time, point(4, size + 4), state, size * 0.7, white, black),
        ]
        return types[_ANNOTATIONS]([], [computed] if dots else [], texts)


def _scaled(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= MAX_WIDTH:
        return image
    size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
