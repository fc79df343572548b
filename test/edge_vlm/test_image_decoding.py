# SPDX-License-Identifier: Apache-2.0
"""Raw and compressed images to RGB."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vlm.errors import InputError
from edge_vlm.sources.compressed_image import decode_compressed_image, encoded_size
from edge_vlm.sources.image_decoding import DEPTH_WHITE_M, LAYOUTS, decode_image

HEIGHT, WIDTH = 8, 12


@pytest.fixture
def rgb() -> np.ndarray:
    """Smooth, so that encodings that share colour between neighbours lose little of it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([40 + 10 * x, 200 - 12 * y, 90 + 3 * x + 4 * y], axis=2).astype(np.uint8)


def padded(rows: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Row bytes with rubbish behind each, and the step."""
    rows = rows.reshape(rows.shape[0], -1).view(np.uint8)
    rubbish = np.full((rows.shape[0], padding), 0xAB, np.uint8)
    return np.concatenate([rows, rubbish], axis=1).tobytes(), rows.shape[1] + padding


def decode(encoding: str, rows: np.ndarray, padding: int = 0, big: bool = False) -> np.ndarray:
    data, step = padded(rows, padding)
    return decode_image(encoding, HEIGHT, WIDTH, step, big, data)


def with_alpha(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image, np.full((*image.shape[:2], 1), 7, image.dtype)], axis=2)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("rgb8", lambda image: image),
        ("RGB8", lambda image: image),
        ("bgr8", lambda image: image[..., ::-1]),
        ("8UC3", lambda image: image[..., ::-1]),
        ("rgba8", with_alpha),
        ("bgra8", lambda image: with_alpha(image[..., ::-1])),
        ("rgb16", lambda image: image.astype("<u2") * 256 + 99),
        ("bgr16", lambda image: image[..., ::-1].astype("<u2") * 256 + 99),
    ],
)
def test_colour_encodings_are_exact(rgb, encoding, encode, padding):
    assert np.array_equal(decode(encoding, np.ascontiguousarray(encode(rgb)), padding), rgb)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(rgb, encoding):
    grey = rgb[..., 0]
    assert np.array_equal(decode(encoding, np.ascontiguousarray(grey), 3), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("big", [False, True])
def test_mono16_keeps_the_upper_byte_in_both_byte_orders(rgb, big):
    grey = (rgb[..., 1].astype(np.uint16) * 256 + 200).astype(">u2" if big else "<u2")
    assert np.array_equal(decode("mono16", grey, 4, big)[..., 2], rgb[..., 1])


def test_depth_is_scaled_by_a_fixed_distance():
    millimetres = np.full((HEIGHT, WIDTH), 5000, "<u2")
    millimetres[0, 0], millimetres[0, 1] = 0, 65535
    grey = decode("16UC1", millimetres)[..., 0]
    assert (grey[0, 0], grey[0, 1], grey[1, 1]) == (0, 255, int(255 * 5.0 / DEPTH_WHITE_M))
    metres = np.full((HEIGHT, WIDTH), 5.0, "<f4")
    metres[0, 0], metres[0, 1] = np.nan, np.inf
    grey = decode("32FC1", metres)[..., 0]
    assert (grey[0, 0], grey[0, 1], grey[1, 1]) == (0, 0, int(255 * 5.0 / DEPTH_WHITE_M))


@pytest.mark.parametrize(
    ("encoding", "swapped"), [("yuv422", True), ("uyvy", True), ("yuv422_yuy2", False), ("yuyv", False)]
)
def test_packed_yuv(rgb, encoding, swapped):
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    pixels = HEIGHT * WIDTH
    luma = yuv[:pixels].reshape(HEIGHT, WIDTH)
    u, v = (
        np.repeat(plane.reshape(HEIGHT // 2, WIDTH // 2), 2, axis=0)
        for plane in (yuv[pixels : pixels * 5 // 4], yuv[pixels * 5 // 4 :])
    )
    chroma = np.stack([u, v], axis=2).reshape(HEIGHT, WIDTH)
    pair = (chroma, luma) if swapped else (luma, chroma)
    assert np.abs(decode(encoding, np.stack(pair, axis=2), 2).astype(int) - rgb).max() < 25


@pytest.mark.parametrize(("encoding", "order"), [("nv12", (0, 1)), ("nv21", (1, 0))])
def test_planar_yuv_with_padded_rows(rgb, encoding, order):
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    pixels = HEIGHT * WIDTH
    planes = yuv[pixels:].reshape(2, -1)[list(order)]
    rows = np.concatenate([yuv[:pixels].reshape(HEIGHT, WIDTH), planes.T.reshape(HEIGHT // 2, WIDTH)])
    assert np.abs(decode(encoding, rows, 4).astype(int) - rgb).max() < 25


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("rggb", "rg", "gb"), ("bggr", "bg", "gr"), ("gbrg", "gb", "rg"), ("grbg", "gr", "bg")],
)
def test_bayer_mosaic_of_one_colour(name, first, second, bits):
    colour = {"r": 200, "g": 120, "b": 30}
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint8 if bits == 8 else "<u2")
    for row, letters in enumerate((first, second)):
        for column, letter in enumerate(letters):
            mosaic[row::2, column::2] = colour[letter] << (bits - 8)
    decoded = decode(f"bayer_{name}{bits}", mosaic)
    assert np.array_equal(decoded[2:-2, 2:-2], np.broadcast_to([200, 120, 30], (HEIGHT - 4, WIDTH - 4, 3)))


def test_rgb8_is_not_copied(rgb):
    data = np.frombuffer(rgb.tobytes(), np.uint8)
    image = decode_image("rgb8", HEIGHT, WIDTH, WIDTH * 3, False, data)
    assert np.shares_memory(image, data)
    assert not image.flags.writeable


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "cmyk"}, "unknown image encoding"),
        ({"step": WIDTH * 3 - 1}, "wrong step"),
        ({"step": 0}, "wrong step"),
        ({"data": b"\0" * (HEIGHT * WIDTH * 3 - 1)}, "short image"),
        ({"data": b""}, "short image"),
        ({"height": 0}, "without pixels"),
        ({"width": 0}, "without pixels"),
        ({"height": 2**31, "width": 2**31, "step": 2**33}, "too large"),
        ({"step": 2**40}, "short image"),
        ({"encoding": "nv12", "width": 11, "step": 11}, "odd image size"),
    ],
)
def test_malformed_images_are_named(change, said):
    right = {
        "encoding": "rgb8",
        "height": HEIGHT,
        "width": WIDTH,
        "step": WIDTH * 3,
        "data": b"\0" * (HEIGHT * WIDTH * 3),
    }
    with pytest.raises(InputError, match=said) as caught:
        decode_image(**(right | change), is_bigendian=False)
    assert caught.value.remedy


def test_unknown_encoding_lists_what_is_known():
    with pytest.raises(InputError) as caught:
        decode_image("cmyk", 2, 2, 6, False, b"\0" * 12)
    assert "bgr8" in caught.value.remedy
    assert "bayer_rggb8" in caught.value.remedy


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*sorted(LAYOUTS), "", "rgb32"]),
    st.integers(-2, 40),
    st.integers(-2, 40),
    st.integers(-4, 200),
    st.booleans(),
    st.binary(max_size=4000),
)
def test_any_fields_give_an_image_or_an_input_error(encoding, height, width, step, big, data):
    try:
        image = decode_image(encoding, height, width, step, big, data)
    except InputError:
        return
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


def encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("format_name", ["png", "rgb8; png compressed bgr8", "", "nonsense"])
def test_png_is_exact_whatever_the_format_says(rgb, format_name):
    assert np.array_equal(decode_compressed_image(format_name, encoded(".png", rgb[..., ::-1])), rgb)


def test_jpeg(rgb):
    large = cv2.resize(rgb, (240, 160))
    decoded = decode_compressed_image("bgr8; jpeg compressed bgr8", encoded(".jpg", large[..., ::-1]))
    assert np.abs(decoded.astype(int) - large).mean() < 3


def test_grey_alpha_and_16_bit_pictures(rgb):
    assert decode_compressed_image("mono8; jpeg compressed", encoded(".jpg", rgb[..., 0])).shape == rgb.shape
    assert np.array_equal(decode_compressed_image("png", encoded(".png", with_alpha(rgb[..., ::-1]))), rgb)
    deep = encoded(".png", rgb[..., 1].astype(np.uint16) * 256)
    assert np.array_equal(decode_compressed_image("mono16; png compressed", deep)[..., 0], rgb[..., 1])


def test_compressed_bayer_is_demosaiced():
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = 250, 10
    mosaic[0::2, 1::2] = mosaic[1::2, 0::2] = 120
    decoded = decode_compressed_image("bayer_rggb8; png compressed bayer_rggb8", encoded(".png", mosaic))
    assert decoded[4, 4].tolist() == [250, 120, 10]


def test_compressed_depth_skips_its_header():
    millimetres = np.full((HEIGHT, WIDTH), 5000, np.uint16)
    data = struct.pack("<iff", 0, 0.0, 0.0) + encoded(".png", millimetres)
    assert decode_compressed_image("16UC1; compressedDepth png", data)[0, 0, 0] == 127


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_undecodable_pictures_are_input_errors(data):
    with pytest.raises(InputError, match="compressed image|without pixels"):
        decode_compressed_image("jpeg", data)


def test_a_huge_picture_is_refused_by_its_header():
    header = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(InputError, match="too large"):
        decode_compressed_image("png", b"\x89PNG\r\n\x1a\n" + chunk)


def test_encoded_size_reads_jpeg_headers(rgb):
    assert encoded_size(encoded(".jpg", rgb)) == (HEIGHT, WIDTH)
    assert encoded_size(b"\xff\xd8" + b"\xff" * 100) is None
    assert encoded_size(b"RIFF") is None
