# SPDX-License-Identifier: Apache-2.0
"""Event classification dense and with tokens reused: rendered gestures, N-MNIST, and DVS128 Gesture where it is.

``python -m bench.gesture_rows``; `make bench-adaptive` has these rows too. The models come from `make events`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.rows import Row, rows_table, write_rows
from edge_vlm.errors import EdgeVlmError
from edge_vlm.events.classifier import EventClassifier
from edge_vlm.events.model import MODEL_JSON, EventModel
from edge_vlm.sources.dvs_gesture import read_gestures
from edge_vlm.sources.event_clip import EventClip
from edge_vlm.sources.nmnist import read_nmnist
from offline_compress.evaluate.event_accuracy import EventAccuracy, event_accuracy
from offline_compress.models.gestures import read_test_gestures
from offline_compress.train.progress import open_console

MODELS = Path("out/models")
NMNIST = Path("../shared/data/events/nmnist_small.npz")
LARGEST_LOSS_POINTS = 1.0


@dataclass(frozen=True)
class Benchmark:
    """``accuracy`` is the goal of the dense run, ``tokens`` that of the mean tokens of a step with reuse."""

    name: str
    folder: str
    accuracy: float
    tokens: float


GESTURES = Benchmark("gestures (rendered)", "events-gestures", 0.98, 31.0)
DIGITS = Benchmark("N-MNIST", "events-nmnist", 0.95, 0.16 * 64)
DVS128 = Benchmark("DVS128 Gesture", "events-dvs128", 0.95, 31.0)


def gesture_rows(models: Path = MODELS, nmnist: Path = NMNIST, dvs128: Path | None = None) -> list[Row]:
    """Goals and figures. What is not here (model, data set) is a row without a value that says why."""
    rows = benchmark_rows(GESTURES, models, read_test_gestures())
    if nmnist.exists():
        rows += benchmark_rows(DIGITS, models, (clip for clip in read_nmnist(nmnist) if clip.is_test))
    else:
        rows.append(Row(f"events, {DIGITS.name}: dense accuracy", None, "", DIGITS.accuracy, "higher", f"no {nmnist}"))
    if dvs128 is not None:
        rows += benchmark_rows(DVS128, models, (clip for clip in read_gestures(dvs128) if clip.is_test))
    return rows


def benchmark_rows(benchmark: Benchmark, models: Path, clips: Iterator[EventClip]) -> list[Row]:
    folder = models / benchmark.folder / "model"
    title = f"events, {benchmark.name}"
    if not (folder / MODEL_JSON).is_file():
        missing = f"no model in {folder}; make events trains it"
        return [Row(f"{title}: dense accuracy", None, "", benchmark.accuracy, "higher", missing)]
    model, test = EventModel.load(folder), list(clips)
    dense = event_accuracy(EventClassifier(model, reuse=False), test)
    return figures(title, benchmark, dense, event_accuracy(EventClassifier(model), test))


def figures(title: str, benchmark: Benchmark, dense: EventAccuracy, sparse: EventAccuracy) -> list[Row]:
    tokens, total = float(sparse.tokens.mean()), sparse.tokens_total
    lost = round(100 * (dense.accuracy - sparse.accuracy), 9)  # one of 100 clips is one point, not 1.0000000000000009
    faster = dense.ms / sparse.ms
    note = f"goal {benchmark.tokens / total:.0%} of {total}"
    return [
        Row(f"{title}: dense accuracy", dense.accuracy, "", benchmark.accuracy, "higher", f"{len(dense.labels)} clips"),
        Row(f"{title}: accuracy with reuse", sparse.accuracy),
        Row(f"{title}: points lost", lost, "points", LARGEST_LOSS_POINTS),
        Row(f"{title}: tokens of a step", tokens, "", benchmark.tokens, "lower", note),
        Row(f"{title}: times faster than dense", faster, "", None, "higher", f"{sparse.ms:.2f} ms a step"),
    ]


def main() -> int:
    """Exit status 0 where all figures were measured, whether their goals hold or not; 1 for an error."""
    parser = argparse.ArgumentParser(prog="bench-events", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--nmnist", type=Path, default=NMNIST, metavar="PATH", help="folder or .npz")
    parser.add_argument("--dvs128", type=Path, metavar="DIR", help="the folder of DVS128 Gesture, where you have it")
    parser.add_argument("--out", type=Path, default=Path("out/bench/events.json"), help="default: %(default)s")
    args = parser.parse_args()
    try:
        rows = gesture_rows(args.models, args.nmnist, args.dvs128)
        write_rows(args.out, rows)
    except EdgeVlmError as error:
        print(f"bench-events: {error}", file=sys.stderr)
        return 1
    console = open_console()
    console.print(rows_table("events", rows))
    console.print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
