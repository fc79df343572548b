# SPDX-License-Identifier: Apache-2.0
"""Compute that follows change: what the token gate and the router save, and what that costs in captions.

``python -m bench.adaptive``, or `make bench-adaptive`. Rendered clips of held-out scenes need nothing but the bundle;
the real videos are not part of the project, see --videos. Pictures lie beside the JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench.accuracy_curve import FEWER_TOKENS, accuracy_curve, curve_rows
from bench.adaptive_pictures import draw_curve, draw_timeline
from bench.gesture_rows import MODELS, NMNIST, gesture_rows
from bench.rendered_rows import (
    DENSE,
    all_variants,
    low_motion_sequences,
    measure,
    mixed_sequences,
    router_rows,
    skipping_rows,
    variant_figures,
    variant_rows,
    variant_table,
)
from bench.rows import Row, rows_table, write_rows
from bench.video_rows import REUSE_GOALS, find_videos, video_rows
from edge_vlm.errors import EdgeVlmError, SourceError
from edge_vlm.runtime import Bundle
from offline_compress.train.progress import counted, open_console

CURVE_PICTURE, TIMELINE_PICTURE = "adaptive_curve.png", "adaptive_timeline.png"
TIMELINE_CLIP = 1
PARTS = ("rendered", "curve", "videos", "events")


def main() -> int:
    """Exit status 0 where all figures were measured, whether their goals hold or not; 1 for an error."""
    parser = argparse.ArgumentParser(prog="bench-adaptive", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), metavar="DIR")
    parser.add_argument("--frames", type=int, default=150, help="of each video (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=20, help="rendered clips of each kind (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="event models of make events")
    parser.add_argument("--nmnist", type=Path, default=NMNIST, metavar="PATH", help="folder or .npz")
    parser.add_argument("--dvs128", type=Path, metavar="DIR", help="the folder of DVS128 Gesture, where you have it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure these alone (default: all)")
    parser.add_argument("--out", type=Path, default=Path("out/bench/adaptive.json"), help="default: %(default)s")
    args = parser.parse_args()
    console = open_console()
    try:
        bundle = Bundle.load(args.bundle)
        rows = measured_rows(bundle, args, console)
        write_rows(args.out, rows)
    except EdgeVlmError as error:
        print(f"bench-adaptive: {error}", file=sys.stderr)
        return 1
    console.print(rows_table("adaptive", rows))
    console.print(f"written to {args.out}; pictures: {args.out.parent / CURVE_PICTURE}, {TIMELINE_PICTURE}")
    return 0


def measured_rows(bundle: Bundle, args: argparse.Namespace, console: Console) -> list[Row]:
    rows = []
    if "rendered" in args.parts:
        rows += rendered_rows(bundle, args.clips, args.out.parent, console)
    if "curve" in args.parts:
        rows += curve_part(bundle, max(1, args.clips // 2), args.out.parent, console)
    if "videos" in args.parts:
        rows += real_rows(bundle, args.videos, args.frames, console)
    if "events" in args.parts:
        with console.status("event classification"):
            rows += gesture_rows(args.models, args.nmnist, args.dvs128)
    return rows


def rendered_rows(bundle: Bundle, clips: int, pictures: Path, console: Console) -> list[Row]:
    """Prints the table of the variants and draws one clip's timeline."""
    with console.status("rendered clips of held-out scenes"):
        sequences = mixed_sequences(clips)
        mixed = measure(bundle, sequences, all_variants())
        configs = {name: config for name, config in all_variants().items() if name in ("both", DENSE)}
        low_motion = measure(bundle, low_motion_sequences(max(1, clips // 2)), configs)
    figures = variant_figures(mixed)
    shown = min(TIMELINE_CLIP, clips - 1)
    draw_timeline(sequences[shown], mixed.runs["both"][shown], mixed.runs[DENSE][shown], pictures / TIMELINE_PICTURE)
    rows = variant_rows(figures) + router_rows(mixed, low_motion, figures)
    console.print(variant_table(figures))
    return rows + skipping_rows(mixed)


def curve_part(bundle: Bundle, clips: int, pictures: Path, console: Console) -> list[Row]:
    """Draws the curve."""
    with console.status("rendered clips of held-out scenes"):
        sequences = mixed_sequences(clips)
    with counted("accuracy against tokens", 2 * len(FEWER_TOKENS), console) as progress:
        points = accuracy_curve(bundle, sequences, progress)
    draw_curve(points, pictures / CURVE_PICTURE)
    return curve_rows(points)


def real_rows(bundle: Bundle, folder: Path, frames: int, console: Console) -> list[Row]:
    """The rows of the videos; where they are missing, one that says so."""
    try:
        groups = find_videos(folder)
    except SourceError as missing:
        return [
            Row(f"{name}: tokens reused", None, "", goal, "higher", missing.what) for name, goal in REUSE_GOALS.items()
        ]
    with counted("videos", sum(map(len, groups.values())), console) as progress:
        return video_rows(bundle, groups, frames, progress)


if __name__ == "__main__":
    sys.exit(main())
