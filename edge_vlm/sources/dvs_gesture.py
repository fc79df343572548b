# SPDX-License-Identifier: Apache-2.0
"""The DVS128 Gesture data set as it is distributed: a folder of AEDAT 3.1 recordings with their labels.

    trials_to_train.txt, trials_to_test.txt   names of recordings, one a line
    user01_fluorescent.aedat                  a recording of several gestures
    user01_fluorescent_labels.csv             class,startTime_usec,endTime_usec; classes count from 1

Amir et al., "A Low Power, Fully Event-Based Gesture Recognition System", CVPR 2017.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_vlm.errors import SourceError
from edge_vlm.sources.aedat import COPY_AGAIN, read_aedat
from edge_vlm.sources.event_clip import EventClip, clip_between

GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
SPLIT_FILES = {False: "trials_to_train.txt", True: "trials_to_test.txt"}  # by is_test
MAX_TABLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Trial:
    """One gesture of a recording, ``label`` an index into GESTURES."""

    label: int
    begin_us: int
    end_us: int


def list_recordings(folder: Path | str) -> list[tuple[Path, bool]]:
    """(recording, is_test) in the order of the two lists.

    Raises:
        SourceError: no such folder, a list is missing, or names a recording that is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: no such folder", "name the folder of DVS128 Gesture that holds trials_to_train.txt"
        )
    found = []
    for is_test, name in SPLIT_FILES.items():
        for line in _read_text(folder / name).splitlines():
            if not line.strip():
                continue
            path = folder / line.strip()
            if path.parent != folder or not path.is_file():
                raise SourceError(f"{folder / name} lists {line.strip()!r}, which is not there", COPY_AGAIN)
            found.append((path, is_test))
    if not found:
        raise SourceError(f"{folder}: its lists of trials are empty", COPY_AGAIN)
    return found


def read_trials(recording: Path) -> list[Trial]:
    """The gestures of one recording, from its ``_labels.csv``.

    Raises:
        SourceError: the table is missing or malformed; names the line.
    """
    path = recording.with_name(f"{recording.stem}_labels.csv")
    rows = list(csv.reader(_read_text(path).splitlines()))
    trials = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            label, begin_us, end_us = (int(value) for value in row)
        except ValueError:
            raise SourceError(f"{path}, line {number}: not class, start and end: {row}", COPY_AGAIN) from None
        if not 1 <= label <= len(GESTURES) or not 0 <= begin_us < end_us:
            raise SourceError(f"{path}, line {number}: impossible class or times: {row}", COPY_AGAIN)
        trials.append(Trial(label - 1, begin_us, end_us))
    if not trials:
        raise SourceError(f"{path}: no gestures in it", COPY_AGAIN)
    return trials


def read_gestures(folder: Path | str) -> Iterator[EventClip]:
    """Every gesture of the data set; one recording is in memory at a time.

    Raises:
        SourceError: a file is missing or malformed, or a gesture has no events.
    """
    for recording, is_test in list_recordings(folder):
        events = read_aedat(recording)
        for index, trial in enumerate(read_trials(recording)):
            part = clip_between(events, trial.begin_us, trial.end_us)
            if not len(part):
                raise SourceError(
                    f"{recording}: no events between {trial.begin_us} and {trial.end_us} us, where its labels name "
                    f"{GESTURES[trial.label]}",
                    COPY_AGAIN,
                )
            yield EventClip(f"{recording.stem}/{index}", part, trial.label, is_test)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise SourceError(f"{path}: far too large for a list of trials", COPY_AGAIN)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})", COPY_AGAIN) from error
