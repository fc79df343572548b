# SPDX-License-Identifier: Apache-2.0
"""Compressed images (the fields of sensor_msgs/CompressedImage) to RGB uint8 (height, width, 3).

The picture says itself what it is (JPEG, PNG, WebP ...); ``format`` is only read for what the bytes cannot say:
a Bayer mosaic ("bayer_rggb8; jpeg compressed") and the 12 bytes in front of a compressedDepth picture.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.sources.image_decoding import LAYOUTS, check_size, decode_image

_DEPTH_HEADER_BYTES = 12  # compressed_depth_image_transport's ConfigHeader
_PNG = b"\x89PNG\r\n\x1a\n"
# JPEG start-of-frame markers: SOF0..SOF15 without DHT (C4), JPG (C8), DAC (CC)
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) as a JPEG's or PNG's header claims, None where neither can be read."""
    if data[:8] == _PNG and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def decode_compressed_image(format_name: str, data) -> np.ndarray:
    """The fields of a sensor_msgs/CompressedImage as RGB uint8 (height, width, 3).

    Raises:
        InputError: empty, damaged or unknown picture data, or an impossible size.
    """
    encoding = format_name.split(";")[0].strip()
    flat = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
    if "compresseddepth" in format_name.lower().replace("_", ""):
        flat = flat[_DEPTH_HEADER_BYTES:]
    if flat.size == 0:
        raise InputError(
            f"compressed image without data: format {format_name!r}", "check the publisher, or record it again"
        )
    size = encoded_size(flat[:65536].tobytes())
    if size is not None:
        check_size(*size)
    try:
        picture = cv2.imdecode(flat, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        picture = None
    if picture is None:
        raise InputError(
            f"compressed image cannot be decoded: format {format_name!r}, {flat.size} bytes",
            "it is damaged or no JPEG, PNG or WebP; check the publisher, or record the raw topic",
        )
    return _to_rgb(picture, encoding)


def _to_rgb(picture: np.ndarray, encoding: str) -> np.ndarray:
    """OpenCV's picture (height, width[, samples]) in BGR order, 8 or 16 bits, to RGB."""
    samples = 1 if picture.ndim == 2 else picture.shape[2]
    bits = picture.dtype.itemsize * 8
    if samples == 1:
        told = encoding.startswith("bayer_") or encoding == "16UC1"
        fits = told and encoding in LAYOUTS and LAYOUTS[encoding].sample_bytes * 8 == bits
        name = encoding if fits else f"mono{bits}"
    else:
        name = {3: "bgr", 4: "bgra"}.get(samples, f"{samples}-sample ") + str(bits)
    height, width = picture.shape[:2]
    row_bytes = width * samples * picture.dtype.itemsize
    return decode_image(name, height, width, row_bytes, False, np.ascontiguousarray(picture).reshape(-1).view(np.uint8))
