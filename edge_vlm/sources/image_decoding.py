# SPDX-License-Identifier: Apache-2.0
"""Raw images (the fields of sensor_msgs/Image) to RGB uint8 (height, width, 3).

Encodings are those of sensor_msgs/image_encodings.hpp. The message bytes are looked at in place; rgb8 stays a
read-only view of them, everything else costs one OpenCV conversion. 16-bit colour keeps its upper byte. Depth
(16UC1 in millimetres, 32FC1 in metres, REP 118) has no white of its own: ``DEPTH_WHITE_M`` metres are white,
missing depth is black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge_vlm.errors import InputError

MAX_PIXELS = 100_000_000
DEPTH_WHITE_M = 10.0


@dataclass(frozen=True)
class Layout:
    """How one encoding lies in memory, and what turns it into RGB.

    ``samples`` per pixel of ``sample_bytes`` each; ``rows_num / rows_den`` rows of bytes per image row (NV12 has
    3/2). ``to_rgb`` takes (rows, width * samples) and returns (height, width, 3).
    """

    samples: int
    sample_bytes: int
    to_rgb: Callable[[np.ndarray], np.ndarray]
    sample_type: str = "u"
    rows_num: int = 1
    rows_den: int = 1
    even_width: bool = False
    even_height: bool = False


def _upper_byte(rows: np.ndarray) -> np.ndarray:
    return (rows >> 8).astype(np.uint8)


def _pixels(samples: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: rows.reshape(rows.shape[0], -1, samples)


def _converted(samples: int, code: int) -> Callable[[np.ndarray], np.ndarray]:
    """The OpenCV conversion ``code`` of 8-bit pixels with ``samples`` samples."""

    def to_rgb(rows: np.ndarray) -> np.ndarray:
        pixels = rows if samples == 1 else rows.reshape(rows.shape[0], -1, samples)
        return cv2.cvtColor(np.ascontiguousarray(pixels), code)

    return to_rgb


def _from_16_bit(to_rgb: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: to_rgb(_upper_byte(rows))


def _depth(metres_per_unit: float) -> Callable[[np.ndarray], np.ndarray]:
    def to_rgb(rows: np.ndarray) -> np.ndarray:
        units = np.nan_to_num(rows.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        white = DEPTH_WHITE_M / metres_per_unit
        grey = (np.clip(units, 0, white) * (255.0 / white)).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)

    return to_rgb


_BGR = _converted(3, cv2.COLOR_BGR2RGB)
_BGRA = _converted(4, cv2.COLOR_BGRA2RGB)
_GREY = _converted(1, cv2.COLOR_GRAY2RGB)
_RGBA = _converted(4, cv2.COLOR_RGBA2RGB)
_UYVY = Layout(2, 1, _converted(2, cv2.COLOR_YUV2RGB_UYVY), even_width=True)
_NV = Layout(1, 1, _converted(1, cv2.COLOR_YUV2RGB_NV12), rows_num=3, rows_den=2, even_width=True, even_height=True)
_YUY2 = Layout(2, 1, _converted(2, cv2.COLOR_YUV2RGB_YUY2), even_width=True)
# A Bayer mosaic is named by its upper left 2x2 pixels, row by row, in ROS and in these OpenCV names.
_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}

LAYOUTS: dict[str, Layout] = {
    "rgb8": Layout(3, 1, _pixels(3)),
    "bgr8": Layout(3, 1, _BGR),
    "8UC3": Layout(3, 1, _BGR),
    "rgba8": Layout(4, 1, _RGBA),
    "bgra8": Layout(4, 1, _BGRA),
    "8UC4": Layout(4, 1, _BGRA),
    "rgb16": Layout(3, 2, _from_16_bit(_pixels(3))),
    "bgr16": Layout(3, 2, _from_16_bit(_BGR)),
    "rgba16": Layout(4, 2, _from_16_bit(_RGBA)),
    "bgra16": Layout(4, 2, _from_16_bit(_BGRA)),
    "mono8": Layout(1, 1, _GREY),
    "8UC1": Layout(1, 1, _GREY),
    "mono16": Layout(1, 2, _from_16_bit(_GREY)),
    "16UC1": Layout(1, 2, _depth(0.001)),
    "32FC1": Layout(1, 4, _depth(1.0), sample_type="f"),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUY2,
    "yuyv": _YUY2,
    "nv12": _NV,
    "nv21": replace(_NV, to_rgb=_converted(1, cv2.COLOR_YUV2RGB_NV21)),
    **{f"bayer_{name}8": Layout(1, 1, _converted(1, code)) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": Layout(1, 2, _from_16_bit(_converted(1, code))) for name, code in _BAYER.items()},
}


def supported_encodings() -> str:
    """The encodings that ``decode_image`` knows, as one line."""
    return ", ".join(sorted(LAYOUTS))


def check_size(height: int, width: int) -> None:
    """Refuse sizes that no camera has, before anything is allocated for them.

    Raises:
        InputError: zero or negative size, or more than ``MAX_PIXELS`` pixels.
    """
    if height <= 0 or width <= 0:
        raise InputError(f"image without pixels: size {width}x{height}", "check the camera driver's settings")
    if height * width > MAX_PIXELS:
        raise InputError(
            f"image too large: {width}x{height} is more than {MAX_PIXELS} pixels",
            "the message is damaged, or needs to be scaled down before it is captioned",
        )


def decode_image(encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data) -> np.ndarray:
    """The fields of a sensor_msgs/Image as RGB uint8 (height, width, 3).

    ``data`` is bytes or a uint8 array (n,) of at least ``step`` bytes per row. The result may be a read-only view
    of it (rgb8).

    Raises:
        InputError: ("kind: details") unknown encoding, impossible size or step, or too few bytes.
    """
    check_size(height, width)
    layout = LAYOUTS.get(encoding) or LAYOUTS.get(encoding.lower())
    if layout is None:
        raise InputError(f"unknown image encoding {encoding!r}", f"publish one of: {supported_encodings()}")
    if (layout.even_width and width % 2) or (layout.even_height and height % 2):
        raise InputError(
            f"odd image size: {encoding} of {width}x{height}",
            f"{encoding} shares colour between neighbours: even sizes only",
        )
    rows = _rows(layout, encoding, height, width, step, data)
    if layout.sample_bytes > 1:
        order = ">" if is_bigendian else "<"
        rows = np.ascontiguousarray(rows).view(f"{order}{layout.sample_type}{layout.sample_bytes}")
    return layout.to_rgb(rows)


def _rows(layout: Layout, encoding: str, height: int, width: int, step: int, data) -> np.ndarray:
    """The image's bytes without the padding at the row ends: uint8 view (rows, bytes of one row)."""
    row_bytes = width * layout.samples * layout.sample_bytes
    if step < row_bytes:
        raise InputError(
            f"wrong step: {step} bytes per row, but {width} pixels of {encoding} need {row_bytes}",
            "the driver must set step to the bytes between two row starts",
        )
    count = height * layout.rows_num // layout.rows_den
    flat = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    needed = step * (count - 1) + row_bytes  # the padding after the last row may be absent
    if flat.size < needed:
        raise InputError(
            f"short image: {flat.size} bytes, but {width}x{height} {encoding} with step {step} needs {needed}",
            "the message is cut, or its step is wrong: check the driver",
        )
    strides = (step * flat.strides[0], flat.strides[0])
    return np.lib.stride_tricks.as_strided(flat, (count, row_bytes), strides, writeable=False)
