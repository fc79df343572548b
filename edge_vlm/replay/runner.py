# SPDX-License-Identifier: Apache-2.0
"""Source in, pipeline through, results out: the loop that replay and watch share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from edge_vlm.errors import EdgeVlmError, InputError, OutputError
from edge_vlm.observation import Observation
from edge_vlm.replay.output_folder import OutputFolder
from edge_vlm.replay.record import frame_record
from edge_vlm.replay.summary import RunSummary
from edge_vlm.replay.uninterrupted import uninterrupted
from edge_vlm.sources.source import ObservationSource
from edge_vlm.step_report import StepReport

INTERRUPTED = "by the user"


class Pipeline(Protocol):
    """What the runner needs of ``CaptionPipeline``."""

    def step(self, observation: Observation) -> StepReport: ...


class Display(Protocol):
    """Shows a run as it goes."""

    def begin(self, source: ObservationSource) -> None: ...

    def note(self, line: str) -> None: ...

    def frame(self, report: StepReport, record: dict) -> None: ...

    def end(self, rows: list[tuple[str, str]], summary: dict) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """``error`` ended the run early, after everything before it was written; ``interrupted`` likewise by Ctrl-C."""

    summary: RunSummary
    document: dict
    error: EdgeVlmError | None
    interrupted: bool


def run(
    source: ObservationSource,
    pipeline: Pipeline,
    display: Display,
    output: OutputFolder | None = None,
    max_frames: int | None = None,
) -> RunResult:
    """Every observation of the source through the pipeline, at most ``max_frames``.

    A frame that the pipeline refuses (InputError) is counted and the run goes on. Any other error of ours, and Ctrl-C,
    ends it: what was done until then is written and shown, and the result says why.
    """
    summary = RunSummary()
    error: EdgeVlmError | None = None
    interrupted = False
    started_s = time.perf_counter()
    display.begin(source)
    try:
        _steps(source, pipeline, display, output, summary, max_frames)
    except EdgeVlmError as ended:
        error = ended
    except KeyboardInterrupt:
        interrupted = True
    except BaseException:  # a fault of ours, or the reader of our pipe has gone: nothing half-written stays
        if output is not None:
            output.abandon()
        raise
    summary.wall_s = time.perf_counter() - started_s
    cause = INTERRUPTED if interrupted else error.what if error else ""
    document = summary.to_json(source.name, source.counts, cause)
    if output is not None:
        with uninterrupted():
            error = _finish(output, document, error)
    display.end(summary.rows(source.counts), document)
    return RunResult(summary, document, error, interrupted)


def _steps(source, pipeline, display, output, summary: RunSummary, max_frames: int | None) -> None:
    shown = 0
    for observation in source:
        try:
            report = pipeline.step(observation)
        except InputError as refused:
            summary.step_drops[refused.what.partition(":")[0]] += 1
            display.note(f"frame at {observation.stamp_ns} ns: {refused.what}; dropped")
            continue
        finally:
            for line in source.notes[shown:]:
                display.note(line)
            shown = len(source.notes)
        summary.add(report)
        record = frame_record(observation, report)
        if output is not None:
            with uninterrupted():
                output.add(observation, report, record)
        display.frame(report, record)
        if max_frames is not None and summary.frames >= max_frames:
            break
    for line in source.notes[shown:]:
        display.note(line)


def _finish(output: OutputFolder, document: dict, error: EdgeVlmError | None) -> EdgeVlmError | None:
    """Complete the output unless writing it is what failed."""
    if isinstance(error, OutputError):
        output.abandon()
        return error
    try:
        output.finish(document)
    except OutputError as failed:
        output.abandon()
        return error or failed
    return error
