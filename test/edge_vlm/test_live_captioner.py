# SPDX-License-Identifier: Apache-2.0
"""Mailbox deliveries through observer and captioner, without ROS: every frame accounted for, every failure survived."""

import numpy as np
import pytest

from edge_vlm.errors import InputError
from edge_vlm.live.annotation import annotated
from edge_vlm.live.captioner import LiveCaptioner
from edge_vlm.live.mailbox import Delivery
from edge_vlm.live.observer import EventTick, LiveObserver
from edge_vlm.observation import Frame, Observation
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE, typestore

SECOND = 1_000_000_000


def serialised(message, message_type: str, receive_ns: int = 7) -> RawMessage:
    return RawMessage("topic", receive_ns, bytes(typestore().serialize_cdr(message, message_type)))


def delivery(image, *packets, overflowed: bool = False, dropped: int = 0) -> Delivery:
    return Delivery(image, packets, dropped, overflowed)


class Pipeline:
    """conftest's FakePipeline with what a live captioner also asks for."""

    def __init__(self, fake):
        self._fake, self.resets, self.asked, self.closes = fake, [], 0, 0
        self.grid = fake.grid

    def step(self, observation):
        return self._fake.step(observation)

    def reset(self, reason):
        self.resets.append(reason)

    def request_caption(self):
        self.asked += 1

    def close(self):
        self.closes += 1


@pytest.fixture
def live(fake_pipeline):
    """Makes a captioner; ``fail`` as in FakePipeline. ``opened`` and ``said`` collect pipelines and reports."""

    def make(fail: dict | None = None):
        opened, said = [], []

        def open_pipeline():
            opened.append(Pipeline(fake_pipeline(every=1, fail=fail if not opened else None)))
            return opened[-1]

        captioner = LiveCaptioner(open_pipeline, lambda: 5 * SECOND, lambda _, report: said.append(report))
        captioner.opened, captioner.said = opened, said
        return captioner

    return make


def test_pixels_of_rgb8_are_a_view_of_the_message(messages):
    raw = serialised(messages.image(SECOND), IMAGE)
    observation = LiveObserver().observe(delivery(raw))
    assert np.shares_memory(observation.frame.image, np.frombuffer(raw.data, np.uint8))
    assert (observation.stamp_ns, observation.frame.frame_id) == (SECOND, "camera")


def test_same_stamp_is_no_new_frame_and_no_stamp_is_the_time_of_receipt(messages):
    observer = LiveObserver()
    assert observer.observe(delivery(serialised(messages.image(SECOND), IMAGE))) is not None
    assert observer.observe(delivery(serialised(messages.image(SECOND), IMAGE))) is None
    for receive_ns in (2 * SECOND, 3 * SECOND):
        unstamped = serialised(messages.image(0), IMAGE, receive_ns)
        assert observer.observe(delivery(unstamped)).stamp_ns == receive_ns


def test_events_of_a_rejected_image_go_to_the_next(messages):
    observer = LiveObserver.on_grid((14, 14), IMAGE, EVENT_PACKET, draws_events=False)
    words = (np.uint64(5) << np.uint64(48)) | (np.arange(10, dtype="<u8") << np.uint64(32))
    packet = serialised(messages.packet(SECOND, 1, words.tobytes(), "mono"), EVENT_PACKET)
    with pytest.raises(InputError):
        observer.observe(delivery(serialised(messages.image(SECOND, "thermal99"), IMAGE), packet))
    observation = observer.observe(delivery(serialised(messages.image(2 * SECOND), IMAGE)))
    assert observation.events.total == 10


def test_thrown_away_packets_mean_that_everything_may_have_changed(messages):
    observer = LiveObserver.on_grid((14, 14), IMAGE, EVENT_PACKET, draws_events=False)
    observation = observer.observe(delivery(serialised(messages.image(SECOND), IMAGE), overflowed=True))
    assert observation.events.overload


def test_pictures_are_drawn_from_events_where_there_is_no_camera(messages):
    observer = LiveObserver.on_grid((14, 14), IMAGE, EVENT_PACKET, draws_events=True)
    assert observer.observe(delivery(EventTick(SECOND))) is None, "nothing to draw yet"
    words = (np.uint64(5) << np.uint64(48)) | (np.arange(10, dtype="<u8") << np.uint64(32))
    packet = serialised(messages.packet(SECOND, 1, words.tobytes(), "mono"), EVENT_PACKET)
    observation = observer.observe(delivery(EventTick(2 * SECOND), packet))
    assert observation.frame.image.shape == (24, 32, 3)
    assert len(np.unique(observation.frame.image)) == 2


def test_compressed_images_are_decoded(messages):
    import cv2

    jpeg = cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
    observer = LiveObserver(image_type=COMPRESSED_IMAGE)
    observation = observer.observe(delivery(serialised(messages.compressed(SECOND, jpeg), COMPRESSED_IMAGE)))
    assert observation.frame.image.shape == (24, 32, 3)


def test_every_frame_is_counted_once(live, messages):
    captioner = live(fail={1: RuntimeError("engine")})
    good = [serialised(messages.image(n * SECOND), IMAGE) for n in (1, 2, 3)]
    captioner.process(delivery(good[0], dropped=4))
    captioner.process(delivery(good[0]))
    captioner.process(delivery(serialised(messages.image(9, "thermal99"), IMAGE)))
    with pytest.raises(RuntimeError):
        captioner.process(delivery(good[1]))
    captioner.process(delivery(good[2]))
    counts = captioner.statistics
    assert (counts.frames_processed, counts.frames_dropped, counts.frames_duplicate) == (2, 4, 1)
    assert counts.frames_rejected == {"unknown image encoding 'thermal99'": 1}
    assert counts.frame_age_ms(50) == pytest.approx(3000.0), "5 s now, frames of 1 and 3 s"


def test_a_pipeline_that_failed_is_made_anew_once(live, messages):
    captioner = live(fail={0: RuntimeError("engine")})
    with pytest.raises(RuntimeError):
        captioner.process(delivery(serialised(messages.image(SECOND), IMAGE)))
    for n in (2, 3):
        captioner.process(delivery(serialised(messages.image(n * SECOND), IMAGE)))
    assert [pipeline.closes for pipeline in captioner.opened] == [1, 0]
    assert len(captioner.said) == 2


def test_settings_that_do_not_work_leave_the_pipeline_that_does(live, messages):
    captioner = live()
    make = captioner._open_pipeline

    def refuse():
        raise InputError("the prompt has 1463 tokens")

    frames = [serialised(messages.image(n * SECOND), IMAGE) for n in (1, 2, 3)]
    captioner._open_pipeline = refuse
    captioner.request_reopen()
    request = captioner.request_caption()
    captioner.process(delivery(frames[0]))
    assert "1463 tokens" in request.error and "1463 tokens" in captioner.statistics.settings_error
    captioner.process(delivery(frames[1]))
    assert len(captioner.said) == 2 and captioner.opened[0].closes == 0
    captioner._open_pipeline = make
    captioner.request_reopen()
    captioner.process(delivery(frames[2]))
    assert captioner.opened[0].closes == 1 and captioner.statistics.settings_error == ""


def test_requests_wait_for_the_next_good_frame(live, messages):
    captioner = live()
    request = captioner.request_caption()
    captioner.request_reset("asked for")
    captioner.process(delivery(serialised(messages.image(SECOND, "thermal99"), IMAGE)))
    assert not request.done.is_set()
    captioner.process(delivery(serialised(messages.image(2 * SECOND), IMAGE)))
    assert request.done.is_set()
    assert request.caption.text.startswith("mean grey")
    assert captioner.opened[0].resets == ["asked for"]


def test_closing_answers_those_who_wait_and_closes_once(live, messages):
    captioner = live()
    request = captioner.request_caption()
    captioner.close()
    captioner.process(delivery(serialised(messages.image(SECOND), IMAGE)))
    captioner.close()
    assert "closed" in request.error
    assert captioner.opened[0].closes == 1
    assert not captioner.said


def test_annotated_picture_shows_what_was_computed(fake_pipeline):
    pipeline = fake_pipeline()
    image = np.full((480, 1280, 3), 100, np.uint8)
    observation = Observation(Frame(1, image))
    pipeline.step(observation)
    picture = annotated(observation, pipeline.step(observation))
    assert picture.shape[1] == 640
    assert picture.shape[0] > 240
    assert tuple(picture[10, 10]) != (100, 100, 100), "the first column was computed"
    assert tuple(picture[10, 600]) == (100, 100, 100)
    assert (image == 100).all()
