# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress train-router``: calibrate the token gate of a bundle and train its router."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_vlm.commands.numbers import count, not_negative, positive
from edge_vlm.errors import InputError
from edge_vlm.files import write_json
from edge_vlm.runtime.bundle import BUNDLE_JSON, Bundle, VisionInfo
from edge_vlm.runtime.text_decoder import TextDecoder
from edge_vlm.runtime.vision_encoder import VisionEncoder
from edge_vlm.sttf import SttfConfig
from offline_compress.kept_parts import KeptParts
from offline_compress.quantize.cost import Cost, peak_bytes
from offline_compress.train.router import RouterConfig, RouterReport, branch_costs, train_router
from offline_compress.train.router_calibration import THRESHOLDS, Calibration, calibrate, kept
from offline_compress.train.router_clips import render_clip
from offline_compress.train.router_oracle import EncodedFrame, Trial, encode_whole, gate_quality, trials_of_clip

_CALIBRATION_CLIPS = 8
_SEED_STRIDE = 100_003


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle folder; its bundle.json is replaced")
    parser.add_argument(
        "--clips", type=count, default=130, help="rendered clips of about 30 frames (default: %(default)s)"
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="of clips and training (default: %(default)s)")
    parser.add_argument(
        "--tolerance", type=positive, help="distance from full recomputation allowed (default: calibrated)"
    )
    parser.add_argument(
        "--cost-weight",
        type=positive,
        default=RouterConfig.cost_weight,
        help="what a whole encode costs, in frames within the tolerance: more saves more (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-gate", action="store_true", help="train the router for the bundle's own gate, which stays as it is"
    )
    parser.add_argument("--threads", type=count, help="inference threads (default: one per core)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="clips of an interrupted run are taken over"
    )


def run(args: argparse.Namespace) -> int:
    bundle = Bundle.load(args.bundle)
    parts = KeptParts(Path(f"{args.bundle.resolve()}.router.work"), _identity(bundle, args), args.resume == "auto")
    with _progress() as progress:
        calibration, trials = _collect(bundle, args, parts, progress)
    tolerance = args.tolerance or calibration.tolerance
    config = RouterConfig(tolerance=tolerance, cost_weight=args.cost_weight, seed=args.seed)
    try:
        router, report = train_router(trials, branch_costs(bundle.vision), config)
    except ValueError as error:
        raise InputError(str(error), "raise --clips") from error
    training = {"seed": args.seed, "clips": args.clips, **report.to_json()}
    _write(bundle, calibration.sttf.to_json(), {**router.to_json(), "training": training})
    parts.remove()
    _print(bundle, calibration, report)
    return 0


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True
    )


def _identity(bundle: Bundle, args: argparse.Namespace) -> dict:
    """What the trials depend on."""
    return {
        "files": {name: info.sha256 for name, info in bundle.info.files.items()}, "seed": args.seed,
        "gate": bundle.sttf if args.keep_gate else None, "calibration clips": min(args.clips, _CALIBRATION_CLIPS),
    }  # fmt: skip


def _collect(
    bundle: Bundle, args: argparse.Namespace, parts: KeptParts, progress: Progress
) -> tuple[Calibration, list[Trial]]:
    """The gate calibrated on some rendered clips, encoded whole, and all branches tried on all."""
    vision, size = bundle.vision, bundle.image.size
    encoder = VisionEncoder(bundle, threads=args.threads)
    decoder = TextDecoder(bundle, threads=args.threads)
    if not parts.begun:
        progress.console.print(f"{args.clips} clips: {_cost(encoder, decoder, vision, size, args)}", highlight=False)

    def clip(index: int) -> list[EncodedFrame]:
        return encode_whole(encoder, render_clip(args.seed * _SEED_STRIDE + index), vision.tokens)

    def gate() -> dict:
        grid, some = (vision.grid, vision.grid), [clip(index) for index in range(min(args.clips, _CALIBRATION_CLIPS))]
        if args.keep_gate:
            return kept(encoder, some, SttfConfig.from_json(bundle.sttf), grid, size).to_json()
        return calibrate(encoder, some, SttfConfig(), grid, size).to_json()

    def tried(index: int, config: SttfConfig) -> list[dict]:
        trials = trials_of_clip(
            encoder, clip(index), index, config, vision, size, lambda features: decoder.generate(features).score
        )
        return [trial.to_json() for trial in trials]

    task = progress.add_task("calibrate the gate", total=1)
    calibration = Calibration.from_json(parts.of("gate", gate))
    progress.update(task, completed=1)
    trials: list[Trial] = []
    for index in progress.track(range(args.clips), description="try the branches"):
        found = parts.of(f"clip-{index:04d}", partial(tried, index, calibration.sttf))
        trials += map(Trial.from_json, found)
    return calibration, trials


def _cost(
    encoder: VisionEncoder, decoder: TextDecoder, vision: VisionInfo, size: int, args: argparse.Namespace
) -> Cost:
    """By what is done with every clip, done with the first."""
    times, config = [time.perf_counter()], SttfConfig()
    clip = encode_whole(encoder, render_clip(args.seed * _SEED_STRIDE), vision.tokens)
    times.append(time.perf_counter())
    gate_quality(encoder, [clip], config, (vision.grid, vision.grid), size)
    times.append(time.perf_counter())
    trials_of_clip(encoder, clip, 0, config, vision, size, lambda features: decoder.generate(features).score)
    times.append(time.perf_counter())
    encoded, gated, tried = (after - before for before, after in pairwise(times))
    some = min(args.clips, _CALIBRATION_CLIPS)
    gates = some * (1 if args.keep_gate else len(THRESHOLDS))
    pixels = sum(frame.resized.nbytes + frame.dense.nbytes for frame in clip)
    seconds = (args.clips + some) * encoded + args.clips * tried + gates * gated
    return Cost(seconds, peak_bytes() + some * pixels, 0)


def _write(bundle: Bundle, sttf: dict, router: dict) -> None:
    """bundle.json anew, all else in it kept; it is the one file that carries no checksum."""
    path = bundle.file(BUNDLE_JSON)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["sttf"], values["router"] = sttf, router
    write_json(path, values)


def _print(bundle: Bundle, calibration: Calibration, report: RouterReport) -> None:
    table = Table(title=f"{bundle.info.name}: token gate and router", show_header=False)
    rows = [
        ("features moved by noise alone (p95)", f"{calibration.noise_distance:.3f}"),
        ("tolerance", f"{report.tolerance:.3f}"),
        ("gate thresholds on / off", f"{calibration.sttf.threshold_on} / {calibration.sttf.threshold_off}"),
        ("new caption from a scene distance of", f"{calibration.sttf.scene_distance:.3f}"),
        ("tokens computed by the gate alone", f"{100 * calibration.quality.token_share:.1f} %"),
        ("frames with a choice", str(report.trials)),
        ("agrees with the oracle", f"{100 * report.agreement:.1f} %"),
        ("within tolerance, cost", _pair(report.within_tolerance, report.cost)),
        ("    weighed so that it costs as the rules do", _pair(report.at_rules_cost, report.rules_cost)),
        ("    fixed rules", _pair(report.rules_within_tolerance, report.rules_cost)),
        ("    always sparse", _pair(report.sparse_within_tolerance, report.sparse_cost)),
        ("    oracle", _pair(1.0, report.oracle_cost)),
        ("    oracle without shallow", _pair(1.0, report.oracle_cost_without_shallow)),
        ("mean excess over the tolerance, fixed rules", f"{report.excess:.3f}, {report.rules_excess:.3f}"),
        ("branches", _percent(report.branch_share)),
        ("oracle's branches", _percent(report.label_share)),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _pair(within: float, cost: float) -> str:
    return f"{100 * within:.1f} %, {100 * cost:.1f} % of whole encodes"


def _percent(shares: dict[str, float]) -> str:
    return ", ".join(f"{branch} {100 * share:.0f} %" for branch, share in shares.items())
