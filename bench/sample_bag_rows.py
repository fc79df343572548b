# SPDX-License-Identifier: Apache-2.0
"""What token reuse saves while nothing moves: the sample recording with and without it, in processes of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.rows import Row
from custom_ops.errors import EdgeVlmError
from edge_vlm.replay.output_folder import LINES
from edge_vlm.sources.bag import open_recording
from edge_vlm.sources.message_types import STRING, deserialised
from offline_compress.models.clip_recording import SEGMENT_TOPIC

ROUNDS = 3
STILL = "still"


class ReplayError(EdgeVlmError):
    """The sample recording cannot be replayed; says why."""


@dataclass(frozen=True)
class Truth:
    """Texts of a truth topic: (stamp, text) in order; each holds until the next."""

    texts: tuple[tuple[int, str], ...]

    @classmethod
    def read(cls, bag: Path, topic: str) -> Truth:
        """Raises ReplayError where the recording has no such topic."""
        with open_recording(bag) as recording:
            found = [
                (raw.receive_ns, deserialised(raw.data, STRING, ros1=False).data) for raw in recording.messages({topic})
            ]
        if not found:
            raise ReplayError(f"{bag} has no {topic}", "render it: edge-vlm-compress sample-bag")
        return cls(tuple(found))

    def at(self, stamp_ns: int) -> str:
        """The text that holds at a stamp; empty before the first."""
        return next((text for since_ns, text in reversed(self.texts) if since_ns <= stamp_ns), "")


def sample_bag_rows(bag: Path, bundle: Path) -> list[Row]:
    """Reuse and time on the still parts, interleaved rounds, medians. Raises ReplayError or SourceError."""
    segments = Truth.read(bag, SEGMENT_TOPIC)
    runs: dict[str, list[list[dict]]] = {"on": [], "off": []}
    for _ in range(ROUNDS):
        for reuse, done in runs.items():
            done.append(replay(bag, bundle, reuse))
    everything = runs["on"][0]
    still = [record for record in everything if segments.at(record["stamp_ns"]) == STILL]
    still_ms = {reuse: still_frame_ms(done, segments) for reuse, done in runs.items()}
    return [
        Row("tokens reused, still parts", reused_share(still), "", 0.80, "higher"),
        Row("time per frame on still parts, reuse / full", still_ms["on"] / still_ms["off"], "", 1 / 3),
        Row("time per frame on still parts, reuse", still_ms["on"], "ms"),
        Row("time per frame on still parts, full recomputation", still_ms["off"], "ms"),
        Row("tokens reused, whole recording", reused_share(everything), "", None, "higher"),
        Row("captions as with full recomputation", equal_share(everything, runs["off"][0]), "", None, "higher"),
    ]


def replay(bag: Path, bundle: Path, reuse: str) -> list[dict]:
    """The lines of captions.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge_vlm", "replay", str(bag), "--bundle", str(bundle)]
        command += ["--reuse", reuse, "--out", folder, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ReplayError(f"{bag}: {done.stderr.strip()}", "run edge-vlm doctor")
        return [json.loads(line) for line in (Path(folder) / LINES).read_text(encoding="utf-8").splitlines()]


def still_frame_ms(runs: list[list[dict]], segments: Truth) -> float:
    """Mean over the still frames of a run, median over runs."""
    return statistics.median(
        statistics.mean(
            record["measured"]["total_ms"] for record in records if segments.at(record["stamp_ns"]) == STILL
        )
        for records in runs
    )


def reused_share(records: list[dict]) -> float:
    return 1 - sum(r["tokens_computed"] for r in records) / sum(r["tokens_total"] for r in records)


def equal_share(records: list[dict], others: list[dict]) -> float:
    return statistics.mean(one["caption"] == other["caption"] for one, other in zip(records, others, strict=True))
