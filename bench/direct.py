# SPDX-License-Identifier: Apache-2.0
"""The node's mailbox, worker and captioner without ROS, fed with the same messages: where rclpy is absent."""

from __future__ import annotations

import time

from bench.load import PACKETS_PER_S, EventStream, Pictures
from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.live.captioner import LiveCaptioner
from edge_vlm.live.mailbox import Mailbox
from edge_vlm.live.observer import LiveObserver
from edge_vlm.live.worker import Worker
from edge_vlm.meters import rss_mb
from edge_vlm.pipeline import CaptionPipeline
from edge_vlm.ros.diagnostics import event_values, values
from edge_vlm.runtime.bundle import Bundle
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.message_types import EVENT_PACKET, IMAGE


class DirectCaptioner:
    """``start_s`` is the time that loading took. Sends to itself what ``bench.load`` would publish."""

    def __init__(self) -> None:
        begun = time.monotonic()
        bundle = Bundle.load(default_bundle_path())
        self.captioner = LiveCaptioner(lambda: CaptionPipeline(bundle), time.time_ns, lambda *_: None)
        self.captioner.observer = LiveObserver.on_grid(self.captioner.grid, IMAGE, EVENT_PACKET, draws_events=False)
        self.mailbox = Mailbox()
        self.statistics = self.captioner.statistics
        self.worker = Worker(
            self.mailbox, self.captioner.process, lambda error, count: self.statistics.failed(str(error), count)
        )
        self.worker.start()
        self.start_s = time.monotonic() - begun

    def put_image(self, data: bytes) -> None:
        """What the node's callback does."""
        self.statistics.arrived(time.monotonic())
        self.mailbox.put_image(RawMessage("image", time.time_ns(), data))

    def soak(self, seconds: float, events_per_s: float, image_rate: float) -> tuple[list, dict, list[dict], float]:
        """Memory samples, what was sent, the diagnostics of every second, and how long stopping took."""
        pictures, stream = Pictures(640, 480), EventStream(events_per_s)
        memory, told, sent_images, sent_packets = [], [], 0, 0
        begun = time.monotonic()
        while (elapsed_s := time.monotonic() - begun) < seconds:
            if sent_packets / PACKETS_PER_S <= elapsed_s:
                data = stream.message(sent_packets)
                self.mailbox.put_events(RawMessage("events", time.time_ns(), data), len(data))
                sent_packets += 1
            if sent_images / image_rate <= elapsed_s:
                self.put_image(pictures.message(sent_images))
                sent_images += 1
            if len(memory) <= 2 * elapsed_s:
                memory.append((elapsed_s, rss_mb()))
            if len(told) <= elapsed_s:
                told.append(values(self.statistics))
            time.sleep(0.001)
        sent = {
            "images": sent_images,
            "packets": sent_packets,
            "events": sent_packets * stream.events,
            "seconds": elapsed_s,
        }
        time.sleep(1.0)
        stopping = time.monotonic()
        self.stop()
        told.append(values(self.statistics) | event_values(self.captioner.observer.intake))
        return memory, sent, told, time.monotonic() - stopping

    def stop(self) -> None:
        self.statistics.dropped(self.mailbox.close())
        self.worker.stop()
        self.captioner.close()
