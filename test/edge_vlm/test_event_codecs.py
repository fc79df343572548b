# SPDX-License-Identifier: Apache-2.0
"""Event formats: decoded against a slow reading of their definition, and encoded and read back."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edge_vlm.errors import InputError
from edge_vlm.observation import Events
from edge_vlm.sources.event_accumulator import EventAccumulator, HotPixelRule
from edge_vlm.sources.event_frames import EventDrawing
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_list import decode_event_list, parse_event_list
from edge_vlm.sources.event_packets import EventPacketDecoder
from edge_vlm.sources.evt3 import Evt3Decoder, encode_evt3
from edge_vlm.sources.libcaer import decode_libcaer, decode_libcaer_cmp
from edge_vlm.sources.mono import decode_mono
from edge_vlm.sources.pixel_events import PixelEvents

WIDTH, HEIGHT = 64, 48


def events_of(t_us, x=None, y=None, polarity=None) -> Events:
    t_us = np.asarray(t_us, np.int64)
    rng = np.random.default_rng(len(t_us))
    x = rng.integers(0, WIDTH, len(t_us)) if x is None else np.asarray(x)
    y = rng.integers(0, HEIGHT, len(t_us)) if y is None else np.asarray(y)
    polarity = rng.random(len(t_us)) < 0.5 if polarity is None else np.asarray(polarity, bool)
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, polarity, WIDTH, HEIGHT)


def tuples(events: Events) -> list[tuple]:
    return list(zip(events.t_us.tolist(), events.x.tolist(), events.y.tolist(), events.polarity.tolist(), strict=True))


def slow_evt3(words: list[int], width: int, height: int) -> tuple[list[tuple], int]:
    """EVT3 word by word, as its description reads: (events, events outside)."""
    y = base = high = low = None
    polarity, wraps, events, outside = 0, 0, [], 0

    def put(x: int, p: int) -> int:
        if high is None or low is None or y is None:
            return 0
        if x >= width or y >= height:
            return 1
        events.append(((wraps << 24) + (high << 12) + low, x, y, bool(p)))
        return 0

    for word in words:
        code, value = word >> 12, word & 0xFFF
        if code == 0:
            y = value & 0x7FF
        elif code == 2:
            outside += put(value & 0x7FF, value >> 11)
        elif code == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif code in (4, 5):
            size = 12 if code == 4 else 8
            if base is not None:
                for bit in range(size):
                    if value >> bit & 1:
                        outside += put(base + bit, polarity)
                base += size
        elif code == 6:
            low = value if high is not None else None
        elif code == 8:
            if high is not None and high - value > 10:
                wraps += 1
            high = value
    return events, outside


words = st.lists(
    st.one_of(
        st.integers(0, 0xFFFF),
        st.builds(lambda code, value: code << 12 | value, st.sampled_from([0, 2, 3, 4, 5, 6, 8]), st.integers(0, 70)),
        st.builds(lambda code, value: code << 12 | value, st.sampled_from([4, 5, 8]), st.integers(0, 0xFFF)),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(words, st.lists(st.integers(0, 120), max_size=4))
def test_evt3_decoder_equals_the_slow_reading_however_the_stream_is_cut(stream, cuts):
    expected, expected_outside = slow_evt3(stream, WIDTH, HEIGHT)
    decoder, got, outside = Evt3Decoder(WIDTH, HEIGHT), [], 0
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in zip(edges, edges[1:], strict=False):
        events, off = decoder.decode(np.array(stream[start:stop], "<u2").tobytes())
        got += tuples(events)
        outside += off
    assert got == expected
    assert outside == expected_outside


@settings(max_examples=300, deadline=None)
@given(words, st.lists(st.integers(0, 120), max_size=4))
def test_evt3_counting_equals_counting_what_is_decoded_however_the_stream_is_cut(stream, cuts):
    slow, fast = Evt3Decoder(WIDTH, HEIGHT), Evt3Decoder(WIDTH, HEIGHT)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in zip(edges, edges[1:], strict=False):
        data = np.array(stream[start:stop], "<u2").tobytes()
        decoded, counted = PixelEvents.of(*slow.decode(data)), fast.count(data)
        assert np.array_equal(counted.counts(), decoded.counts())
        assert counted.count == counted.counts().sum()
        figures = ("count", "outside", "first_us", "last_us", "width", "height")
        assert all(getattr(counted, name) == getattr(decoded, name) for name in figures)
        assert fast == slow  # state and counters; either may go on


def test_evt3_counting_of_whole_packets_with_and_without_vectors():
    rng = np.random.default_rng(5)
    y, x, t_us = (
        np.repeat(rng.integers(0, 50, 900), 9),
        rng.integers(0, 70, 8100),
        np.sort(rng.integers(0, 40_000, 8100)),
    )
    singles = encode_evt3(Events(x.astype(np.uint16), y.astype(np.uint16), t_us, y > 20, 70, 50))
    vectors = np.array([8 << 12, 6 << 12, 7, *rng.integers(3 << 12, 6 << 12, 5000)], "<u2").tobytes()
    for data in (singles, vectors, singles + vectors):
        decoded = PixelEvents.of(*Evt3Decoder(WIDTH, HEIGHT).decode(data))
        counted = Evt3Decoder(WIDTH, HEIGHT).count(data)
        assert np.array_equal(counted.counts(), decoded.counts())
        assert (counted.count, counted.outside) == (decoded.count, decoded.outside)
        assert (counted.first_us, counted.last_us) == (decoded.first_us, decoded.last_us)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=200), st.integers(0, (1 << 24) - 1))
def test_evt3_round_trip(steps, start):
    events = events_of(start + np.cumsum(steps))
    decoded, outside = Evt3Decoder(WIDTH, HEIGHT).decode(encode_evt3(events))
    assert outside == 0
    wraps = int(events.t_us[0]) >> 24 << 24  # a stream's time counts from its first packet's last wrap
    same_start = [(t - wraps, x, y, p) for t, x, y, p in tuples(events)]
    assert sorted(tuples(decoded)) == sorted(same_start)


def test_evt3_packets_of_the_encoder_stand_alone_and_time_goes_on_over_the_wrap():
    t_us = np.arange(0, 60_000_000, 50_000)  # more than three wraps of 16.77 s
    decoder, decoded = Evt3Decoder(WIDTH, HEIGHT), []
    for part in np.array_split(t_us, 40):
        data = encode_evt3(events_of(part))
        alone, _ = Evt3Decoder(WIDTH, HEIGHT).decode(data)
        assert len(alone) == len(part)
        decoded.append(decoder.decode(data)[0].t_us)
    assert np.array_equal(np.concatenate(decoded), t_us)


def test_evt3_small_steps_back_are_no_wrap():
    stream = [8 << 12 | 100, 6 << 12, 0, 2 << 12 | 1, 8 << 12 | 95, 6 << 12, 2 << 12 | 2]
    events, _ = Evt3Decoder(WIDTH, HEIGHT).decode(np.array(stream, "<u2").tobytes())
    assert events.t_us.tolist() == [100 << 12, 95 << 12]


def test_evt3_counts_what_it_leaves_out():
    decoder = Evt3Decoder(WIDTH, HEIGHT)
    stream = [2 << 12 | 5, 8 << 12, 6 << 12, 0, 2 << 12 | 5, 2 << 12 | WIDTH, 1 << 12, 9 << 12, 4 << 12 | 0b111]
    events, outside = decoder.decode(np.array(stream, "<u2").tobytes() + b"\x01")  # and half a word
    assert (len(events), outside) == (1, 1)
    assert decoder.unknown_words == 2
    assert decoder.unsynchronised == 1 + 3  # before the first time; vector without base


def test_evt3_big_endian_and_skipped_packets():
    events = events_of(np.arange(100) * 7)
    data = encode_evt3(events)
    swapped = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    decoder = Evt3Decoder(WIDTH, HEIGHT)
    assert tuples(decoder.decode(swapped, is_bigendian=True)[0]) == tuples(Evt3Decoder(WIDTH, HEIGHT).decode(data)[0])
    for start in range(0, 20_000_000, 4_000_000):
        decoder.skip(encode_evt3(events_of([start])))
    late, _ = decoder.decode(encode_evt3(events_of([20_000_000])))
    assert late.t_us.tolist() == [20_000_000]  # the wrap was followed while nothing was decoded


def test_evt3_empty_packets():
    assert encode_evt3(events_of([])) == b""
    events, outside = Evt3Decoder(WIDTH, HEIGHT).decode(b"")
    assert (len(events), outside) == (0, 0)


def libcaer(events: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in events)


def test_libcaer_fields_and_overflow_within_a_packet():
    last = (1 << 31) - 1
    data = libcaer([(last - 1, 3, 4, 1), (last, 5, 6, 0), (2, WIDTH, 0, 1), (3, 7, 8, 1)])
    events, outside = decode_libcaer(data, 1_000_000_000_000, WIDTH, HEIGHT)
    base = 1_000_000_000
    assert tuples(events) == [
        (base + last - 1, 3, 4, True),
        (base + last, 5, 6, False),
        (base + (1 << 31) + 3, 7, 8, True),
    ]
    assert outside == 1
    assert len(decode_libcaer(b"\x01\x02\x03", 0, WIDTH, HEIGHT)[0]) == 0


def test_libcaer_cmp_singles_and_vectors():
    stream = [
        0 << 12 | 1,
        1 << 12 | 5,
        2 << 12 | 10,
        3 << 12 | 1 << 11 | 20,
        4 << 12 | 30,
        5 << 12 | 0b101,
        5 << 12 | 0b1,
    ]
    events, outside = decode_libcaer_cmp(np.array(stream, "<u2").tobytes(), 1000, WIDTH, HEIGHT)
    t_us = 1000 + (1 << 12) + 5
    assert tuples(events) == [(t_us, 10, 20, True), (t_us, 10, 30, False), (t_us, 10, 32, False), (t_us, 10, 38, False)]
    assert outside == 0


@pytest.mark.parametrize("big", [False, True])
def test_mono(big):
    data = b"".join(struct.pack(">Q" if big else "<Q", p << 63 | y << 48 | x << 32 | t) for t, x, y, p in
                    [(1000, 1, 2, 1), (2_500, 3, 4, 0), (3000, 9999, 4, 0)])  # fmt: skip
    events, outside = decode_mono(data, 10_000, WIDTH, HEIGHT, big)
    assert tuples(events) == [(11, 1, 2, True), (12, 3, 4, False)]
    assert outside == 1


@pytest.mark.parametrize("ros1", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("frame_id", ["", "dvs", "davis"])
def test_event_arrays_as_other_tools_serialise_them(ros1, count, frame_id):
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    time_type = "time" if ros1 else "builtin_interfaces/Time"
    store.register(get_types_from_msg(f"uint16 x\nuint16 y\n{time_type} ts\nbool polarity\n", "dvs_msgs/msg/Event"))
    fields = "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n"
    store.register(get_types_from_msg(fields, "dvs_msgs/msg/EventArray"))
    types = store.types
    make_time = types["builtin_interfaces/msg/Time"]
    listed = [types["dvs_msgs/msg/Event"](n, n + 1, make_time(5, n * 1000 + 7), n % 2 == 0) for n in range(count)]
    stamp = ([1] if ros1 else []) + [make_time(6, 8), frame_id]
    message = types["dvs_msgs/msg/EventArray"](types["std_msgs/msg/Header"](*stamp), HEIGHT, WIDTH, listed)
    kind = "dvs_msgs/msg/EventArray"
    data = bytes(store.serialize_ros1(message, kind) if ros1 else store.serialize_cdr(message, kind))
    parsed = parse_event_list(data, ros1)
    assert (parsed.width, parsed.height, parsed.stamp_sec) == (WIDTH, HEIGHT, 6)
    events, outside = decode_event_list(parsed)
    assert tuples(events) == [(5_000_000 + n, n, n + 1, n % 2 == 0) for n in range(count)]
    assert outside == 0
    drawing = EventDrawing(EventAccumulator((2, 2)))
    drawing.add_list(parsed)
    picture = drawing.draw()
    assert picture.shape == (HEIGHT, WIDTH, 3) and int((picture != 128).any(axis=2).sum()) == count


@pytest.mark.parametrize("ros1", [False, True])
def test_cut_event_arrays_are_input_errors(ros1):
    for length in range(40):
        head = (
            struct.pack("<IIIIIII", 0, 1, 2, 0, 10, 10, 99)
            if ros1
            else struct.pack("<IiIIIII", 256, 1, 2, 0, 10, 10, 99)
        )
        with pytest.raises(InputError, match="event array"):
            parse_event_list((head + b"\0" * 12)[:length], ros1)


def test_unknown_encodings_and_sensors_are_input_errors():
    decoder = EventPacketDecoder()
    with pytest.raises(InputError, match="unknown event encoding 'evt2'") as caught:
        decoder.decode("evt2", WIDTH, HEIGHT, 0, b"")
    assert "libcaer_cmp" in caught.value.remedy
    for width, height in ((0, 5), (5, 0), (1 << 20, 5)):
        with pytest.raises(InputError, match="event sensor"):
            decoder.decode("evt3", width, height, 0, b"")


def test_counts_per_patch_are_those_of_the_grid():
    accumulator = EventAccumulator(grid=(3, 4))
    accumulator.add(events_of([10, 20, 30, 40], x=[0, 15, 16, 63], y=[0, 15, 16, 47]), outside=2)
    window = accumulator.take()
    expected = np.zeros((3, 4), np.int32)
    expected[0, 0], expected[1, 1], expected[2, 3] = 2, 1, 1
    assert np.array_equal(window.counts, expected)
    assert (window.total, window.duration_us, window.outside, window.overload) == (4, 30, 2, False)
    assert window.pixels_per_patch == WIDTH * HEIGHT / 12
    assert accumulator.take().total == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_any_sensor_fits_any_grid(width, height, rows, columns, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, 50).astype(np.uint16), rng.integers(0, height, 50).astype(np.uint16)
    accumulator = EventAccumulator(grid=(rows, columns), hot_pixels=HotPixelRule(min_events=1000))
    accumulator.add(Events(x, y, np.arange(50), np.ones(50, bool), width, height))
    expected = np.zeros((rows, columns), int)
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        expected[py * rows // height, px * columns // width] += 1
    assert np.array_equal(accumulator.take().counts, expected)


def test_a_hot_pixel_is_taken_out_and_a_moving_edge_is_not():
    accumulator = EventAccumulator(grid=(3, 4))
    accumulator.add(events_of(np.arange(500), x=np.full(500, 20), y=np.full(500, 20)))
    edge_x, edge_y = np.meshgrid(np.arange(40, 44), np.arange(48))
    for start in range(20):
        accumulator.add(events_of(np.full(edge_x.size, 1000 + start), x=edge_x.reshape(-1), y=edge_y.reshape(-1)))
    window = accumulator.take()
    assert window.hot_pixels == 1
    assert window.counts[1, 1] == 0
    assert window.total == 20 * edge_x.size


def test_too_many_events_make_an_overload_and_the_next_window_is_normal():
    accumulator = EventAccumulator(max_events=1000)
    for start in range(10):
        accumulator.add(events_of(np.arange(300) + start * 300))
    assert accumulator.take().overload
    accumulator.add(events_of(np.arange(300)))
    window = accumulator.take()
    assert (window.overload, window.total) == (False, 300)


def test_gaps_in_the_sequence_are_lost_packets():
    intake = EventIntake()
    data = encode_evt3(events_of([1, 2, 3]))
    for seq in (5, 6, 9, 10):
        intake.add_packet("evt3", WIDTH, HEIGHT, seq, 0, data)
    assert intake.take().lost == 2
    intake.add_packet("evt3", WIDTH, HEIGHT, 0, 0, data)  # the driver was started anew
    assert intake.take().lost == 0
    assert (intake.lost, intake.packets, intake.events) == (2, 5, 15)


def test_undecodable_packets_are_counted_and_the_stream_goes_on():
    intake = EventIntake()
    intake.add_packet("evt2", WIDTH, HEIGHT, 0, 0, b"")
    intake.add_packet("evt3", WIDTH, HEIGHT, 1, 0, encode_evt3(events_of([1, 2, 3])))
    window = intake.take()
    assert (window.total, window.lost) == (3, 1)
    assert dict(intake.dropped) == {"unknown event encoding 'evt2'": 1}


def test_events_outside_the_sensor_are_counted_and_ignored():
    intake = EventIntake()
    wide = Events(
        np.array([5, 900], np.uint16), np.array([5, 5], np.uint16), np.array([1, 2]), np.ones(2, bool), 1000, 48
    )
    intake.add_packet("evt3", WIDTH, HEIGHT, 0, 0, encode_evt3(wide))
    window = intake.take()
    assert (window.total, window.outside, intake.outside) == (1, 1, 1)


def test_packets_past_an_overload_are_not_decoded_but_time_goes_on():
    intake = EventIntake(EventAccumulator(max_events=100))
    for seq in range(20):
        intake.add_packet("evt3", WIDTH, HEIGHT, seq, 0, encode_evt3(events_of(seq * 1_000_000 + np.arange(90))))
    assert intake.take().overload
    intake.add_packet("evt3", WIDTH, HEIGHT, 20, 0, encode_evt3(events_of(20_000_000 + np.arange(50))))
    window = intake.take()
    assert (window.overload, window.total, window.lost) == (False, 50, 0)
    assert intake.overloads == 1


def test_events_that_are_arrays_already():
    intake = EventIntake()
    intake.add_events(events_of([1, 2, 3], x=[5, 6, WIDTH], y=[5, 5, 5]))
    window = intake.take(33_000)
    assert (window.total, window.outside, window.duration_us, intake.packets) == (2, 1, 33_000, 1)
