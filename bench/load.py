# SPDX-License-Identifier: Apache-2.0
"""A camera and an event camera as a process of their own: python -m bench.load --seconds 60 [--events-per-s 10000000].

Prints one JSON object at the end: images and packets sent. The camera's picture moves and changes its light; the
packets are evt3 of neighbouring pixels in rows, as moving edges make them, at 100 packets a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from edge_vlm.observation import Events
from edge_vlm.sources.evt3 import encode_evt3
from edge_vlm.sources.message_types import EVENT_PACKET, IMAGE, typestore

WIDTH, HEIGHT = 640, 480
PACKETS_PER_S = 100
_RUN = 12  # neighbouring pixels of one row, as wide as an EVT3 vector
_PICTURES = 16


def main() -> int:
    import rclpy
    from rclpy.qos import qos_profile_sensor_data

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--image-rate", type=float, default=30.0)
    parser.add_argument("--events-per-s", type=float, default=0.0)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--height", type=int, default=HEIGHT)
    options = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node("load")
    from sensor_msgs.msg import Image

    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    packets = None
    if options.events_per_s:
        from event_camera_msgs.msg import EventPacket

        packets = node.create_publisher(EventPacket, "events", 100)
    while not images.get_subscription_count():
        time.sleep(0.05)
    time.sleep(0.5)
    print(json.dumps(publish(options, images, packets)), flush=True)
    time.sleep(1.0)
    rclpy.try_shutdown()
    return 0


def publish(options: argparse.Namespace, images, packets) -> dict:
    """Paced by the steady clock; late ones are sent at once, none is left out."""
    pictures = Pictures(options.width, options.height)
    stream = EventStream(options.events_per_s) if packets is not None else None
    started_s = time.monotonic()
    sent_images = sent_packets = 0
    while True:
        next_image_s = sent_images / options.image_rate
        next_packet_s = sent_packets / PACKETS_PER_S if stream else np.inf
        due_s = min(next_image_s, next_packet_s)
        if due_s >= options.seconds:
            break
        time.sleep(max(0.0, started_s + due_s - time.monotonic()))
        if next_packet_s <= next_image_s:
            packets.publish(stream.message(sent_packets))
            sent_packets += 1
        else:
            images.publish(pictures.message(sent_images))
            sent_images += 1
    took_s = time.monotonic() - started_s
    events = sent_packets * stream.events if stream else 0
    return {"images": sent_images, "packets": sent_packets, "events": events, "seconds": round(took_s, 3)}


class Pictures:
    """Serialised images; only their stamps are made anew."""

    def __init__(self, width: int, height: int) -> None:
        types, generator = typestore().types, np.random.default_rng(0)
        background = generator.integers(40, 90, (height, width, 3), dtype=np.uint8)
        self._messages = []
        for number in range(_PICTURES):
            picture = background.copy()
            x = width * number // _PICTURES
            picture[height // 4 : height // 2, x : x + width // 10] = (200, 30, 30)
            head = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
            message = types[IMAGE](head, height, width, "rgb8", 0, 3 * width, picture.reshape(-1))
            self._messages.append(bytearray(typestore().serialize_cdr(message, IMAGE)))

    def message(self, number: int) -> bytes:
        data = self._messages[number % _PICTURES]
        data[4:12] = np.array(divmod(time.time_ns(), 1_000_000_000), "<u4").tobytes()
        return bytes(data)


class EventStream:
    """Serialised EventPackets of ``events`` events each, with stamp and sequence number made anew."""

    def __init__(self, events_per_s: float) -> None:
        generator = np.random.default_rng(1)
        runs = max(1, int(events_per_s / PACKETS_PER_S / _RUN))
        y = np.repeat(generator.integers(0, HEIGHT, runs), _RUN)
        x = (generator.integers(0, WIDTH // _RUN, runs)[:, None] * _RUN + np.arange(_RUN)).reshape(-1)
        t_us = np.repeat(np.sort(generator.integers(0, 1_000_000 // PACKETS_PER_S, runs)), _RUN)
        self.events = len(x)
        arrays = (x.astype(np.uint16), y.astype(np.uint16), t_us.astype(np.int64), np.ones(len(x), bool))
        self.data = np.frombuffer(encode_evt3(Events(*arrays, WIDTH, HEIGHT)), np.uint8)

    def message(self, number: int) -> bytes:
        return event_packet(self.data, number)


def event_packet(data: np.ndarray, number: int, encoding: str = "evt3") -> bytes:
    """Events as a serialised EventPacket of now."""
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(time.time_ns(), 1_000_000_000))
    head = types["std_msgs/msg/Header"](stamp, "events")
    packet = types[EVENT_PACKET](head, HEIGHT, WIDTH, number, 0, encoding, False, data)
    return bytes(typestore().serialize_cdr(packet, EVENT_PACKET))


if __name__ == "__main__":
    sys.exit(main())
