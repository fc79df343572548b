# SPDX-License-Identifier: Apache-2.0
"""What a run left behind, read again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vlm.errors import SourceError
from edge_vlm.replay.output_folder import LINES, RECORDING, SUMMARY
from edge_vlm.sources.bag import open_recording
from edge_vlm.sources.compressed_image import decode_compressed_image
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, deserialised

RUN_AGAIN = "replay the recording again with --out"


@dataclass(frozen=True)
class RunResults:
    """``records`` are the lines of captions.jsonl; ``summary`` is None where the run did not end properly."""

    folder: Path
    records: list[dict]
    summary: dict | None

    def images(self, wanted: set[int]) -> dict[int, np.ndarray]:
        """RGB uint8 (height, width, 3) of the records at these places; none where captions.mcap is not there."""
        path = self.folder / RECORDING
        found: dict[int, np.ndarray] = {}
        if not path.exists():
            return found
        by_stamp = {self.records[place]["stamp_ns"]: place for place in wanted}
        with open_recording(path) as recording:
            for raw in recording.messages({"/edge_vlm/image"}):
                place = by_stamp.get(raw.receive_ns)
                if place is not None:
                    message = deserialised(raw.data, COMPRESSED_IMAGE, ros1=False)
                    found[place] = decode_compressed_image(message.format, message.data)
        return found


def read_results(folder: str | Path) -> RunResults:
    """The results in a folder that ``edge-vlm replay --out`` or ``watch --out`` wrote.

    Raises:
        SourceError: there are none, or a line is damaged.
    """
    folder = Path(folder)
    path = folder / LINES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"no results in {folder}: cannot read {path}", RUN_AGAIN) from error
    records = [_record(line, f"line {number} of {path}") for number, line in enumerate(lines, 1)]
    if not records:
        raise SourceError(f"{path} has no frames", RUN_AGAIN)
    return RunResults(folder, records, _summary(folder / SUMMARY))


_NEEDED = ("frame", "stamp_ns", "caption", "branch", "tokens_computed", "tokens_total", "active", "grid", "measured")


def _record(line: str, place: str) -> dict:
    try:
        record = json.loads(line)
        return {key: record[key] for key in _NEEDED} | record
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{place} is no frame's result", RUN_AGAIN) from error


def _summary(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
