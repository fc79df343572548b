# SPDX-License-Identifier: Apache-2.0
"""Classify a recording of events, AEDAT 3.1 (.aedat) or N-MNIST (.bin), step by step.

An .aedat file with its _labels.csv beside it is classified gesture by gesture, everything else as one stream of which
every step shows the class so far.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_vlm.commands.numbers import threads
from edge_vlm.errors import SourceError
from edge_vlm.events.classifier import EventClassifier, EventStep
from edge_vlm.events.model import EventModel
from edge_vlm.observation import Events
from edge_vlm.sources.aedat import read_aedat
from edge_vlm.sources.dvs_gesture import GESTURES, read_trials
from edge_vlm.sources.event_clip import clip_between
from edge_vlm.sources.nmnist import read_bin

EPILOG = """\
examples:
  edge-vlm classify-events user24_led.aedat --model out/models/events-dvs128/model
  edge-vlm classify-events Test/7/00018.bin --model out/models/events-nmnist/model --reuse off
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, metavar="FILE", help=".aedat or .bin")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="what train-events wrote")
    parser.add_argument("--reuse", choices=("on", "off"), default="on", help="off computes every token (default: on)")
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help="inference threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(args: argparse.Namespace) -> int:
    classifier = EventClassifier(EventModel.load(args.model), reuse=args.reuse == "on", threads=args.threads)
    parts = list(labelled_parts(args.recording))
    for name, events, label in parts:
        steps = list(classifier.run(events))
        if len(parts) == 1 and not args.json:
            for step in steps:
                print(step_line(step, int(events.t_us[0])))
        print(json.dumps(summary(name, steps, label)) if args.json else summary_line(name, steps, label))
    return 0


def labelled_parts(path: Path) -> Iterator[tuple[str, Events, str | None]]:
    """(name, events, right class or None). Raises SourceError for a file of another kind."""
    if path.suffix == ".bin":
        yield path.name, read_bin(path), None
        return
    if path.suffix != ".aedat":
        raise SourceError(
            f"{path}: no recording of events that is known here", "name an .aedat or an N-MNIST .bin file"
        )
    events = read_aedat(path)
    if not path.with_name(f"{path.stem}_labels.csv").is_file():
        yield path.name, events, None
        return
    for index, trial in enumerate(read_trials(path)):
        part = clip_between(events, trial.begin_us, trial.end_us)
        if not len(part):
            raise SourceError(f"{path}: gesture {index} of its labels has no events", "copy the recording again")
        yield f"{path.name} gesture {index}", part, GESTURES[trial.label]


def summary(name: str, steps: list[EventStep], label: str | None) -> dict:
    """What was seen of one part, and what it cost; ``tokens`` and ``ms`` are means over its steps."""
    last = steps[-1]
    result = {
        "name": name,
        "class": last.label,
        "score": round(last.score, 4),
        "steps": len(steps),
        "tokens": round(float(np.mean([step.tokens_computed for step in steps])), 2),
        "tokens_total": last.tokens_total,
        "ms": round(float(np.mean([step.total_ms for step in steps])), 3),
    }
    return result if label is None else result | {"label": label}


def summary_line(name: str, steps: list[EventStep], label: str | None) -> str:
    s = summary(name, steps, label)
    verdict = "" if label is None else f" ({'right' if label == s['class'] else 'wrong: ' + label})"
    return (f"{name}: {s['class']} {s['score']:.0%}{verdict}, {s['tokens']:.1f} of {s['tokens_total']} tokens and "
            f"{s['ms']:.2f} ms a step")  # fmt: skip


def step_line(step: EventStep, start_us: int) -> str:
    return (f"{(step.stamp_us - start_us) * 1e-3:9.1f} ms  {step.events:7d} events  {step.tokens_computed:4d} tokens  "
            f"{step.total_ms:6.2f} ms  {step.label} {step.score:.0%}")  # fmt: skip
