# SPDX-License-Identifier: Apache-2.0
"""The folder that a run leaves behind: captions.jsonl, captions.mcap, summary.json."""

from __future__ import annotations

from pathlib import Path

from edge_vlm.errors import OutputError
from edge_vlm.files import write_json
from edge_vlm.observation import Observation
from edge_vlm.replay.captions_mcap import CaptionsMcap
from edge_vlm.replay.line_file import LineFile, cannot_write
from edge_vlm.replay.record import to_line
from edge_vlm.step_report import StepReport

LINES, RECORDING, SUMMARY, PICTURE = "captions.jsonl", "captions.mcap", "summary.json", "timeline.png"


class OutputFolder:
    """Lines are there as they come; the recording and the summary when ``finish`` is called. Results of a former run
    in the same folder are replaced; a picture of that run goes too.

    Raises:
        OutputError: the folder cannot be made or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file", "name a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (RECORDING, SUMMARY, PICTURE):
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._lines = LineFile(self.path / LINES)
        self._recording = CaptionsMcap(self.path / RECORDING)

    def add(self, observation: Observation, report: StepReport, record: dict) -> None:
        """One frame."""
        self._lines.write(to_line(record))
        self._recording.add(observation, report)

    def finish(self, summary: dict) -> None:
        """Complete all three files; also after an interrupt or an error of the source."""
        self._lines.close()
        self._recording.finish()
        write_json(self.path / SUMMARY, summary)

    def abandon(self) -> None:
        """Writing failed: keep the lines, drop the unfinished recording."""
        self._lines.close()
        self._recording.abandon()
