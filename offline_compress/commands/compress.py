# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress compress``: a Hugging Face folder becomes a ternary, binary, int8 or float32 bundle."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from edge_vlm.commands.numbers import count, not_negative, positive
from edge_vlm.runtime.bundle import Bundle
from offline_compress.evaluate.bundle_evaluation import evaluate_bundle
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions
from offline_compress.evaluate.heldout import caption_scores, heldout_samples
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.export.weights import ModelWeights
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.report import MatrixReport, plan_table
from offline_compress.train.calibration import calibrated
from offline_compress.train.compression import (
    VARIANTS,
    Source,
    report_of,
    train_quantised,
    training_report,
    write_bundle,
)
from offline_compress.train.progress import counted, open_console
from offline_compress.train.qat import QatConfig, QatProgress
from offline_compress.train.scene_batches import SceneData, scene_data

HELP = "quantise a Hugging Face folder, train it to recover, write the bundle"
STEPS = {"ternary": 1000, "binary": 600, "int8": 0, "original": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="HF_FOLDER", help="config.json, *.safetensors, tokenizer.json")
    parser.add_argument("--method", choices=list(VARIANTS), default="ternary", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write; replaces a bundle")
    parser.add_argument("--name", help="name of the model (default: the folder's)")
    parser.add_argument("--data-cache", type=Path, metavar="DIR", help="scenes that train-demo rendered")
    parser.add_argument("--steps", type=not_negative, help="training steps; 0: round only (default: by method)")
    parser.add_argument(
        "--solver", choices=["rtn", "gptq", "descent", "gptaq"], default="rtn",
        help="without training (--steps 0): round to nearest, or solve against calibration pairs from --data-cache",
    )  # fmt: skip
    parser.add_argument("--no-saliency", action="store_true", help="with a solver: every token counts the same")
    parser.add_argument("--pairs", type=count, default=128, help="calibration pairs of a solver (default: %(default)s)")
    parser.add_argument("--batch", type=count, default=32, help="images in a training step (default: %(default)s)")
    parser.add_argument(
        "--seed", type=not_negative, default=0, help="of the training data's order (default: %(default)s)"
    )
    parser.add_argument("--latent-rate", type=positive, default=QatConfig.latent_rate, help="default: %(default)s")
    parser.add_argument("--other-rate", type=positive, default=QatConfig.other_rate, help="default: %(default)s")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the checkpoint where there is one"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="checkpoints and loss curve (default: BUNDLE.work)")
    parser.add_argument("--heldout", type=not_negative, default=600, help="scenes measured (default: %(default)s)")
    parser.add_argument(
        "--watch", type=not_negative, default=60, help="held-out scenes shown to it while training (default: 60)"
    )
    parser.add_argument("--threads", type=count, help="CPU threads (default: all cores)")
    parser.add_argument("--plan-only", action="store_true", help="print what every matrix would get, then stop")


def run(args: argparse.Namespace) -> int:
    console = open_console()
    source = Source.read(args.folder, args.method)
    weights, rows = source.initial()
    console.print(plan_table(rows, f"{args.folder.name}: {args.method}"))
    if args.plan_only:
        return 0
    steps = STEPS[args.method] if args.steps is None else args.steps
    training = None
    if args.solver != "rtn":
        require(steps == 0, "a solver works without training", "give --steps 0, or leave out --solver")
        require(args.data_cache is not None, f"{args.solver} needs calibration pairs", "give --data-cache DIR")
        weights, rows = calibrate(args, source, console)
        console.print(plan_table(rows, f"{args.folder.name}: {args.method}, {args.solver}"))
        options = {"solver": args.solver, "saliency": not args.no_saliency, "pairs": args.pairs, "seed": args.seed}
        training = {"method": "calibration", "options": options, "curve": []}
    if steps > 0:
        require(
            args.data_cache is not None, "training needs data",
            "give --data-cache DIR, or --steps 0 to round without training",
        )  # fmt: skip
        config = QatConfig(steps=steps, latent_rate=args.latent_rate, other_rate=args.other_rate)
        weights, rows, curve = train(args, source, config, console)
        console.print(plan_table(rows, f"{args.folder.name}: {args.method}, trained"))
        training = training_report(config, curve)
    name = args.name or args.folder.resolve().name
    write_bundle(source, weights, args.out, name, report_of(source, rows, training, None))
    if args.heldout > 0:
        heldout = evaluate(args, console)  # through the graphs just written, then sealed into the report
        write_bundle(source, weights, args.out, name, report_of(source, rows, training, heldout))
    info = Bundle.load(args.out, verify=False).info
    console.print(f"{args.out}: {info.name} ({info.variant}), {info.weight_bytes / 1e6:.2f} MB of weights")
    return 0


def require(fulfilled: bool, what: str, remedy: str) -> None:
    if not fulfilled:
        raise QuantizeError(what, remedy)


def calibrate(args: argparse.Namespace, source: Source, console: Console) -> tuple[ModelWeights, list[MatrixReport]]:
    """Training-free, against ``--pairs`` cached scenes. Raises SourceError where there are none."""
    require(args.pairs > 0, f"{args.pairs} calibration pairs", "give --pairs 1 or more")
    if args.threads:
        torch.set_num_threads(args.threads)
    size = min(args.batch, args.pairs)
    data = scene_data(args.folder, args.data_cache, size, args.seed)
    batches = [data.batches.batch(step) for step in range(-(-args.pairs // size))]
    work = work_folder(args) / "blocks"
    with counted(f"{args.method}, {args.solver}: %", 100, console) as advance:
        return calibrated(
            source, batches, args.solver, not args.no_saliency,
            lambda share, what: advance(round(100 * share), what), work, args.resume == "auto",
        )  # fmt: skip


def work_folder(args: argparse.Namespace) -> Path:
    return args.work or args.out.with_name(f"{args.out.name}.work")


def train(args: argparse.Namespace, source: Source, config: QatConfig, console: Console):
    """QAT on the cached training scenes. Raises SourceError where there are none."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    data = scene_data(args.folder, args.data_cache, args.batch, args.seed)
    work = work_folder(args)
    with counted(f"{args.method}: step", config.steps, console) as advance:
        return train_quantised(
            source,
            data.batches,
            config,
            work,
            args.resume == "auto",
            lambda progress: advance(progress.step, losses_text(progress)),
            watcher(args.watch, data, console),
        )


def watcher(count: int, data: SceneData, console: Console) -> Callable[[torch.nn.Module], None] | None:
    """Prints how the quantised model captions ``count`` held-out scenes; None for none."""
    if count <= 0:
        return None
    samples = heldout_samples(count)
    images, firsts = [sample.image_rgb for sample in samples], [sample.references[0] for sample in samples]

    def watch(model: torch.nn.Module) -> None:
        captions = greedy_captions(model, data.tokenizer, data.prompt, images)
        cider = caption_metrics(captions, [sample.references for sample in samples], meteor=False)["cider"]
        scores = answer_log_probabilities(model, data.tokenizer, data.prompt, images, firsts)
        console.print(
            f"{count} held-out scenes: CIDEr {cider:.3f}, perplexity {from_log_probabilities(scores):.4f}",
            highlight=False,
        )

    return watch


def losses_text(progress: QatProgress) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())


def evaluate(args: argparse.Namespace, console: Console) -> dict:
    """Captions, perplexity, memory and speed of the bundle on scenes of combinations that were never trained on."""
    samples = heldout_samples(args.heldout)
    with counted("held-out scenes", len(samples), console) as advance:
        result = evaluate_bundle(args.out, samples, caption_scores, advance)
    values = {key: value for key, value in result.to_json().items() if key not in ("captions", "path")}
    shown = ", ".join(f"{key} {value:.3f}" for key, value in result.metrics.items())
    console.print(f"held-out, through .tflite: perplexity {result.perplexity:.3f}, {shown}")
    return values
