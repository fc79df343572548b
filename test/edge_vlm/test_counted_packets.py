# SPDX-License-Identifier: Apache-2.0
"""Packets counted by the operator library give exactly what the NumPy decoders say, whatever bytes they hold."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_ops import library
from custom_ops.event_counting import load_event_counter
from edge_vlm.errors import InputError
from edge_vlm.observation import Events
from edge_vlm.sources.counted_packet import counted, counted_evt3, counted_list
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_list import EventList, decode_event_list, list_bytes
from edge_vlm.sources.event_packets import EventPacketDecoder
from edge_vlm.sources.evt3 import Evt3Decoder, encode_evt3
from edge_vlm.sources.pixel_events import PixelEvents

FIGURES = ("count", "outside", "first_us", "last_us", "width", "height")


@pytest.fixture(scope="module")
def counter():
    library.ensure_library()
    return load_event_counter()


def assert_same(counted_packet, reference: PixelEvents) -> None:
    assert {name: getattr(counted_packet, name) for name in FIGURES} == {n: getattr(reference, n) for n in FIGURES}
    assert np.array_equal(counted_packet.counts(), reference.counts())


words = st.lists(
    st.one_of(
        st.integers(0, 0xFFFF),
        st.builds(lambda code, value: code << 12 | value, st.sampled_from([0, 2, 3, 4, 5, 6, 8]), st.integers(0, 70)),
        st.builds(lambda code, value: code << 12 | value, st.sampled_from([4, 5, 8]), st.integers(0, 0xFFF)),
    ),
    max_size=120,
)
sides = st.sampled_from([1, 2, 11, 12, 13, 48, 63, 64, 71, 640, 1281, 2047, 2048, 2500])


@settings(max_examples=400, deadline=None)
@given(words, st.lists(st.integers(0, 240), max_size=4), sides, sides, st.booleans())
def test_evt3_however_the_stream_is_cut(counter, stream, cuts, width, height, big):
    data = np.array(stream, ">u2" if big else "<u2").tobytes()
    numpy, native = Evt3Decoder(width, height), Evt3Decoder(width, height)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]  # also in the middle of a word
    for start, stop in zip(edges, edges[1:], strict=False):
        reference = numpy.count(data[start:stop], big)
        assert_same(counted_evt3(counter, native, data[start:stop], big), reference)
        assert native == numpy  # state and counters; either may go on


@pytest.mark.parametrize("seed", range(4))
def test_evt3_long_packets_of_random_words(counter, seed):
    rng = np.random.default_rng(seed)
    numpy, native = Evt3Decoder(640, 480), Evt3Decoder(640, 480)
    for packet in range(20):
        stream = rng.integers(0, 1 << 16, 30_000).astype("<u2")
        if packet % 2:  # mostly single events in runs, as cameras send them
            stream = np.where(rng.random(30_000) < 0.9, 2 << 12 | rng.integers(0, 700, 30_000), stream).astype("<u2")
        assert_same(counted_evt3(counter, native, stream.view(np.uint8)), numpy.count(stream.view(np.uint8)))
        assert native == numpy


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["libcaer", "libcaer_cmp", "mono"]),
    st.binary(max_size=600),
    st.integers(1, 255),
    sides,
    sides,
    st.integers(0, 1 << 60),
    st.booleans(),
)
def test_other_encodings_of_any_bytes(counter, encoding, data, largest, width, height, time_base, big):
    data = bytes(byte % largest for byte in data)  # small numbers lie on the sensor more often
    reference = EventPacketDecoder(counter=None).count(encoding, width, height, time_base, data, big)
    assert_same(counted(counter, encoding, width, height, time_base, data, big), reference)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.booleans(), st.booleans(), sides, sides, st.integers(0, 2**32 - 1))
def test_event_lists_of_any_bytes(counter, count, is_cdr, big, width, height, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, rng.integers(1, 257), list_bytes(count, is_cdr) + int(rng.integers(0, 9)), dtype=np.uint8)
    message = EventList(0, 0, width, height, count, memoryview(data.tobytes()), is_cdr, is_cdr and big)
    assert_same(counted_list(counter, message), PixelEvents.of(*decode_event_list(message)))


def windows(counter, max_events: int = 4_000) -> list:
    """Windows of streams of packets of several encodings, sensors that change, and events beyond the limit."""
    rng = np.random.default_rng(11)
    intake = EventIntake(EventAccumulator(max_events=max_events), EventPacketDecoder(counter))
    found = []
    for number in range(120):
        width, height = ((64, 48), (64, 48), (33, 21))[number // 40]
        size = int(rng.integers(0, 900))
        columns = (rng.integers(0, 70, size), rng.integers(0, 50, size), np.sort(rng.integers(0, 9_000, size)))
        events = Events(columns[0].astype(np.uint16), columns[1].astype(np.uint16), columns[2], columns[0] > 30, 70, 50)
        mono = b"".join(struct.pack("<Q", y << 48 | x << 32 | t) for x, y, t in zip(*columns, strict=True))
        encoding, data = ("evt3", encode_evt3(events)) if number % 3 else ("mono", mono)
        intake.add_packet(encoding, width, height, number, 0, data)
        if number % 7 == 6:
            found.append(intake.take())
    return [*found, (intake.events, intake.outside, intake.lost, intake.overloads)]


@pytest.mark.parametrize("max_events", [900, 4_000, 1_000_000])
def test_windows_are_those_of_numpy_with_overloads_and_sensors_that_change(counter, max_events):
    native, numpy = windows(counter, max_events), windows(None, max_events)
    assert native.pop() == numpy.pop()
    for ours, theirs in zip(native, numpy, strict=True):
        assert np.array_equal(ours.counts, theirs.counts)
        assert {**vars(ours), "counts": None} == {**vars(theirs), "counts": None}


def test_without_the_library_events_are_counted_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv(library.LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    intake = EventIntake()
    assert intake.decoder.counter is None
    intake.add_packet("mono", 64, 48, 0, 0, struct.pack("<Q", 5 << 48 | 4 << 32))
    assert intake.take().total == 1


@pytest.mark.parametrize("time_base", [1 << 62, (1 << 64) - 1])
def test_a_time_that_no_clock_shows_is_an_input_error(counter, time_base):
    for decoder in (EventPacketDecoder(counter), EventPacketDecoder(None)):
        for encoding in ("mono", "libcaer", "libcaer_cmp"):
            with pytest.raises(InputError, match="impossible time_base of a packet: "):
                decoder.count(encoding, 64, 48, time_base, bytes(16))
