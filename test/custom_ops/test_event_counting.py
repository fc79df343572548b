# SPDX-License-Identifier: Apache-2.0
"""The library's event counter: what it refuses, and that it touches nothing but the pixels. What it counts is compared
with the NumPy decoders in test/edge_vlm/test_counted_packets.py."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from native_program import ARM_COMPILER, ARM_EMULATOR, what_it_prints

from custom_ops import build, library
from custom_ops.errors import OperatorError
from custom_ops.event_counting import Encoding, EventPass, load_event_counter

CHECK = Path(__file__).with_name("event_check.cc")


@pytest.fixture(scope="module")
def counter():
    library.ensure_library()
    return load_event_counter()


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("big_endian", [False, True])
def test_nothing_beside_the_pixels_is_written(counter, encoding, big_endian):
    rng = np.random.default_rng(int(encoding))
    for width, height in ((1, 1), (7, 5), (640, 3), (3, 480)):
        memory = np.full(width * height + 4096, 77, np.int32)
        counts = memory[2048:-2048].reshape(height, width)
        counts[:] = 0
        event_pass = EventPass.over(encoding, width, height, big_endian)
        for length in (0, 1, 7, 13, 14, 2001, 2002):
            counter.count(event_pass, rng.integers(0, 256, length, dtype=np.uint8), counts)
        assert counts.sum() == event_pass.count
        assert (memory[:2048] == 77).all()
        assert (memory[-2048:] == 77).all()


def test_arrays_of_another_sensor_or_type_are_refused(counter):
    event_pass, data = EventPass.over(Encoding.EVT3, 8, 4), np.zeros(6, np.uint8)
    for counts in (np.zeros((8, 4), np.int32), np.zeros((4, 8), np.int64), np.zeros((4, 16), np.int32)[:, ::2]):
        with pytest.raises(OperatorError, match="counts are"):
            counter.count(event_pass, data, counts)
    for packet in (data.view(np.uint16), data.reshape(2, 3), np.zeros(12, np.uint8)[::2]):
        with pytest.raises(OperatorError, match="the packet is"):
            counter.count(event_pass, packet)


@pytest.mark.parametrize(
    "changed",
    [{"width": 0}, {"height": -1}, {"width": 1 << 16}, {"encoding": 99}, {"encoding": -1}, {"struct_bytes": 8},
     {"y": -2}, {"base_x": -5}],
)  # fmt: skip
def test_passes_that_cannot_be_are_refused_and_nothing_is_touched(counter, changed):
    event_pass = EventPass.over(Encoding.EVT3, 8, 4)
    for name, value in changed.items():
        setattr(event_pass, name, value)
    before = bytes(event_pass)
    with pytest.raises(OperatorError, match="refused"):
        counter.count(event_pass, np.zeros(64, np.uint8))
    assert bytes(event_pass) == before


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_without_a_library_that_counts_there_is_no_counter(tmp_path, monkeypatch, content):
    other = tmp_path / "other.so"
    other.write_bytes(content)
    monkeypatch.setenv(library.LIBRARY_VARIABLE, str(other))
    assert load_event_counter() is None
    monkeypatch.setenv(library.LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    assert load_event_counter() is None


def checked(folder, compiler, flags, run=()):
    return what_it_prints(folder, CHECK, "events", compiler, flags, run)


@pytest.mark.skipif("EDGE_VLM_SANITIZERS" not in os.environ, reason="make test-sanitizers")
def test_no_packet_makes_the_counter_read_or_write_beyond_its_arrays(tmp_path):
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    output = checked(tmp_path, build.find_compiler(), flags)
    if output is None:
        pytest.skip("the sanitizers' libraries are not installed")
    assert output == "0 wrong\n"


@pytest.mark.skipif(not shutil.which(ARM_COMPILER), reason=f"{ARM_COMPILER} is not installed: make test-arm")
@pytest.mark.skipif(not shutil.which(ARM_EMULATOR), reason=f"{ARM_EMULATOR} is not installed: make test-arm")
def test_events_are_counted_on_arm(tmp_path):
    assert checked(tmp_path, [ARM_COMPILER], ["-O2", "-static"], [ARM_EMULATOR]) == "0 wrong\n"
