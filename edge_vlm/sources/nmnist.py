# SPDX-License-Identifier: Apache-2.0
"""N-MNIST: one recording as it is distributed (.bin), the data set's folder, and a packed subset (.npz).

A .bin file holds 5 bytes per event, big-endian: x (8 bits), y (8 bits), polarity (1 bit), microseconds (23 bits); an
event with y = 240 marks an overflow of the time, which none of the data set's 300 ms recordings reaches. The folder
has Train/0 .. Train/9 and Test/0 .. Test/9. Orchard et al., Frontiers in Neuroscience 2015.

The .npz has ``xyp`` uint8 (events, 3), ``dt`` int32 (events,) whose cumulative sum over all gives microseconds,
``offsets`` (clips + 1,) into both, ``label`` and ``is_test`` (clips,).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_vlm.errors import SourceError
from edge_vlm.observation import Events
from edge_vlm.sources.event_clip import EventClip

SIDE = 34  # pixels of the sensor
DIGITS = tuple("0123456789")
EVENT_BYTES = 5
COPY_AGAIN = "copy or download the data again"
_FOLDERS = {False: "Train", True: "Test"}  # by is_test
_ARRAYS = {"xyp": "u1", "dt": "i4", "offsets": "i8", "label": "u1", "is_test": "b1"}


def read_nmnist(path: Path | str) -> Iterator[EventClip]:
    """All recordings of the data set's folder or of a packed subset.

    Raises:
        SourceError: neither of the two, or malformed; names the file.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    return _read_packed(path)


def read_bin(path: Path | str) -> Events:
    """The events of one .bin file.

    Raises:
        SourceError: it cannot be read, is empty or cut, or was recorded by a larger sensor.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})", "name an N-MNIST recording (.bin)") from error
    if not raw.size or raw.size % EVENT_BYTES:
        raise SourceError(f"{path}: {raw.size} bytes are no whole number of events of {EVENT_BYTES} bytes", COPY_AGAIN)
    x, y, high, middle, low = raw.reshape(-1, EVENT_BYTES).astype(np.int64).T
    t_us = ((high & 0x7F) << 16) | (middle << 8) | low
    if max(x.max(), y.max()) >= SIDE or (np.diff(t_us) < 0).any():
        raise SourceError(f"{path}: its events are not those of a {SIDE}x{SIDE} sensor in time order", COPY_AGAIN)
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, high >> 7 == 1, SIDE, SIDE)


def _read_folder(folder: Path) -> Iterator[EventClip]:
    files = [
        (path, label, is_test)
        for is_test, name in _FOLDERS.items()
        for label, digit in enumerate(DIGITS)
        for path in sorted((folder / name / digit).glob("*.bin"))
    ]
    if not files:
        raise SourceError(f"{folder}: no Train/0/*.bin in it", "name the folder that holds Train and Test")
    for path, label, is_test in files:
        yield EventClip(str(path.relative_to(folder)), read_bin(path), label, is_test)


def _read_packed(path: Path) -> Iterator[EventClip]:
    arrays = _load_arrays(path)
    xyp, offsets = arrays["xyp"], arrays["offsets"]
    t_us = np.cumsum(arrays["dt"], dtype=np.int64)
    for index, (first, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        x, y, polarity = xyp[first:end].T
        times = t_us[first:end]
        if not len(times) or (np.diff(times) < 0).any():
            raise SourceError(f"{path}: recording {index} is empty or not in time order", COPY_AGAIN)
        events = Events(x.astype(np.uint16), y.astype(np.uint16), times, polarity.astype(bool), SIDE, SIDE)
        yield EventClip(f"{path.stem}/{index}", events, int(arrays["label"][index]), bool(arrays["is_test"][index]))


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays, found to fit each other."""
    other = "name the data set's folder, or an .npz with xyp, dt, offsets, ..."
    if path.is_file() and not zipfile.is_zipfile(path):
        raise SourceError(f"{path}: no packed N-MNIST (it is no .npz)", other)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(kind, copy=False) for name, kind in _ARRAYS.items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: no packed N-MNIST ({error})", other) from error
    events, clips, offsets = len(arrays["xyp"]), len(arrays["label"]), arrays["offsets"]
    fits = (
        arrays["xyp"].shape == (events, 3)
        and arrays["dt"].shape == (events,)
        and offsets.shape == (clips + 1,)
        and arrays["is_test"].shape == arrays["label"].shape == (clips,)
        and clips > 0
        and (offsets[0], offsets[-1]) == (0, events)
        and (np.diff(offsets) >= 0).all()
        and arrays["label"].max() < len(DIGITS)
        and events > 0
        and arrays["xyp"][:, :2].max() < SIDE
    )
    if not fits:
        raise SourceError(f"{path}: its arrays do not fit each other", COPY_AGAIN)
    return arrays
