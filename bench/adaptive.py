# SPDX-License-Identifier: Apache-2.0
"""Reuse of tokens on real videos: how many, how near to full recomputation, how much faster.

``python -m bench.adaptive``, or `make bench-adaptive`. The videos are not part of the project; see --videos.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.rows import Row, rows_table, write_rows
from bench.video_reuse import VideoReuse, measure_video
from edge_vlm.errors import EdgeVlmError, SourceError
from edge_vlm.runtime import Bundle
from edge_vlm.sttf import SttfConfig
from offline_compress.train.progress import open_console

STATIC = ("bottle-detection.mp4", "one-by-one-person-detection.mp4")
MOVING = ("solidWhiteRight.mp4",)
GESTURES = "asl_gestures"
CURVE_THRESHOLDS = (0.0, 3.0, 12.0, 24.0)


def main() -> int:
    """Exit status 0 where all figures were measured, whether their goals hold or not; 1 for an error."""
    parser = argparse.ArgumentParser(prog="bench-adaptive", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), metavar="DIR")
    parser.add_argument("--frames", type=int, default=200, help="of each video (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench/adaptive.json"), help="default: %(default)s")
    args = parser.parse_args()
    console = open_console()
    try:
        rows = adaptive_rows(Bundle.load(args.bundle), find_videos(args.videos), args.frames)
        write_rows(args.out, rows)
    except EdgeVlmError as error:
        print(f"bench-adaptive: {error}", file=sys.stderr)
        return 1
    console.print(rows_table("adaptive", rows))
    console.print(f"written to {args.out}")
    return 0


def find_videos(folder: Path) -> dict[str, list[Path]]:
    """The videos by group. Raises SourceError where one group has none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    groups = {
        "static": [path for path in files if path.name in STATIC],
        "gestures": [path for path in files if path.parent.name == GESTURES],
        "moving": [path for path in files if path.name in MOVING],
    }
    for name, paths in groups.items():
        if not paths:
            raise SourceError(f"no {name} videos under {folder}", "name their folder with --videos DIR")
    return groups


def adaptive_rows(bundle: Bundle, groups: dict[str, list[Path]], frames: int) -> list[Row]:
    measured = {name: [measure_video(bundle, path, frames) for path in paths] for name, paths in groups.items()}
    goals = {"static": 0.84, "gestures": 0.84, "moving": 0.5}
    rows = [row for name, videos in measured.items() for row in group_rows(name, videos, goals[name])]
    gate = SttfConfig.from_json(bundle.sttf)
    for threshold in CURVE_THRESHOLDS:
        changed = replace(gate, threshold_on=threshold, threshold_off=threshold * 2 / 3)
        videos = [measure_video(bundle, path, frames, changed) for path in groups["static"]]
        rows.append(Row(f"static, threshold {threshold:g}: tokens reused", _mean(videos, "reused")))
        rows.append(Row(f"static, threshold {threshold:g}: mean cosine", _mean(videos, "cosine")))
    return rows


def group_rows(name: str, videos: list[VideoReuse], reuse_goal: float) -> list[Row]:
    """Means are over videos, each counted once; the worst frame is that of all."""
    worst = min(video.cosine.min() for video in videos)
    ratio = float(np.mean([video.dense_ms.mean() / video.reuse_ms.mean() for video in videos]))
    return [
        Row(f"{name}: tokens reused", _mean(videos, "reused"), "", reuse_goal, "higher"),
        Row(f"{name}: mean cosine to dense features", _mean(videos, "cosine"), "", 0.98, "higher"),
        Row(f"{name}: worst frame's cosine", float(worst), "", 0.95, "higher"),
        Row(f"{name}: mean cosine of frame skipping, same tokens", _mean(videos, "skip_cosine")),
        Row(f"{name}: mean cosine of the first frame, kept for ever", _mean(videos, "frozen_cosine")),
        Row(f"{name}: captions as with full recomputation", _mean(videos, "same_caption")),
        Row(f"{name}: times faster than full recomputation", ratio, "", None if name == "moving" else 8.0, "higher"),
    ]


def _mean(videos: list[VideoReuse], figure: str) -> float:
    return float(np.mean([getattr(video, figure).mean() for video in videos]))


if __name__ == "__main__":
    sys.exit(main())
