# SPDX-License-Identifier: Apache-2.0
"""What replay and watch have in common: bundle and pipeline options, and what a run's end means for the exit status."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge_vlm.commands.numbers import count, threads
from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.errors import InputError, SourceError
from edge_vlm.interrupts import interrupted
from edge_vlm.pipeline_config import ROUTES, VARIANTS, PipelineConfig
from edge_vlm.replay.display import JsonDisplay, TerminalDisplay
from edge_vlm.replay.runner import RunResult
from edge_vlm.sources.source import ObservationSource
from edge_vlm.sources.video import NEWER_FRAME


def add_pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    """--bundle, --variant, --reuse, --route, --prompt, --threads, --max-frames, --out, --json."""
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="model bundle (default: the demo bundle)")
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        default="both",
        help="sttf: compute changed tokens alone; anc: the router chooses a branch for whole frames; both; "
        "none: every frame whole, to compare (default: both)",
    )
    parser.add_argument(
        "--reuse",
        choices=("on", "off"),
        default="on",
        help="off computes every frame whole, as --variant none does (default: on)",
    )
    parser.add_argument(
        "--route", choices=ROUTES, default="auto", help="let the router choose the branch, or force one (default: auto)"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="question put to the model (default: the bundle's)")
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help="inference threads (default: 1)")
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write captions.jsonl, captions.mcap (for Foxglove) and summary.json"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of the table")


def open_pipeline(args: argparse.Namespace):
    """The pipeline as the options want it.

    Raises:
        BundleError: the bundle is missing, damaged or not one of ours.
        InputError: options that contradict each other.
    """
    from edge_vlm.pipeline import CaptionPipeline
    from edge_vlm.runtime.bundle import Bundle

    check_consistent(args)
    bundle = Bundle.load(args.bundle or default_bundle_path())
    config = PipelineConfig(
        variant=args.variant,
        reuse=args.reuse == "on",
        route=args.route,
        question=args.prompt,
        threads=args.threads,
    )
    return CaptionPipeline(bundle, config)


def check_consistent(args: argparse.Namespace) -> None:
    """Frames are computed whole or in part. Raises InputError where the options ask for both."""
    whole = args.variant == "none" or args.reuse == "off"
    if (whole and args.route not in ("auto", "full")) or (args.reuse == "off" and args.variant in ("sttf", "anc")):
        asked = f"--variant {args.variant} --reuse {args.reuse} --route {args.route}"
        raise InputError(f"{asked}: frames are computed whole, or in part", "leave one of these out")


def open_display(args: argparse.Namespace):
    return JsonDisplay() if args.json else TerminalDisplay()


def exit_status(args: argparse.Namespace, result: RunResult, source: ObservationSource) -> int:
    """0 where every image of the source was captioned; else says on stderr what was not."""
    where = f"; results are in {args.out}" if args.out is not None else ""
    if result.interrupted:
        print(f"interrupted after {result.summary.frames} frames{where}", file=sys.stderr)
        return interrupted()
    if result.error is not None:
        if args.out is not None:
            print(f"{result.summary.frames} frames were captioned{where}", file=sys.stderr)
        raise result.error
    if not result.summary.frames:
        raise SourceError(f"{source.name}: not one frame could be captioned", "see the notes above")
    drops = source.counts.dropped + result.summary.step_drops
    drops.pop(NEWER_FRAME, None)
    if drops:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in drops.most_common())
        raise SourceError(
            f"{source.name}: {sum(drops.values())} of {source.counts.images} images could not be captioned: "
            f"{reasons}{where}",
            "the notes above name the messages; check the driver that published them",
        )
    if args.out is not None and not args.json:
        look = f"{program()} report {args.out}"
        print(f"written to {args.out}; look at it: {look}, or open captions.mcap in Foxglove")
    return 0


def program() -> str:
    """How this process was called, so that what we suggest works when it is typed: without installation there is no
    edge-vlm on the PATH."""
    if Path(sys.argv[0]).name == "edge-vlm":
        return "edge-vlm"
    return f"{os.path.relpath(sys.executable)} -m edge_vlm"
