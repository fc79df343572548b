# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress compress``: a Hugging Face folder becomes a bundle, trained to recover or without training."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console

from edge_vlm.commands.numbers import count, not_negative, positive
from edge_vlm.runtime.bundle import Bundle
from offline_compress.evaluate.bundle_evaluation import bundle_perplexity, evaluate_bundle
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions
from offline_compress.evaluate.heldout import caption_scores
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.evaluate.samples import Sample
from offline_compress.evaluate.streamed_perplexity import sample_batches, streamed_perplexity
from offline_compress.export.bundle_writer import check_bundle_replaceable
from offline_compress.export.weights import ModelWeights
from offline_compress.pairs.captioned_images import skipped_text
from offline_compress.pairs.opening import open_pairs
from offline_compress.quantize.block import SALIENCY
from offline_compress.quantize.budget import planned_bytes
from offline_compress.quantize.plan import SOLVERS, VARIANTS
from offline_compress.quantize.plan_file import read_plan
from offline_compress.quantize.report import plan_table, planned_rows, stored_rows
from offline_compress.streaming.streamed_vlm import StreamedVlm
from offline_compress.train.compression import (
    Source,
    report_of,
    train_quantised,
    training_report,
    write_bundle,
)
from offline_compress.train.compression_data import CaptionedPhotos, CompressionData, RenderedScenes
from offline_compress.train.precision import multiplies_bfloat16
from offline_compress.train.processes import Processes
from offline_compress.train.progress import counted, open_console
from offline_compress.train.qat import QatConfig, QatProgress
from offline_compress.train.training_free import (
    PRECISIONS,
    TrainingFree,
    compress_without_training,
    require,
    verdict,
)

STEPS = {"ternary": 1000, "binary": 600}  # of training where nothing else is asked for
DEFAULT_BITS = 4.5  # a weight, without training
JUDGED = 64  # held-out images on which the float model is measured too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="HF_FOLDER", help="config.json, *.safetensors, tokenizer.json")
    parser.add_argument(
        "--method", choices=[*(name for name in VARIANTS if name != "mixed"), "auto"],
        help="auto: every matrix its own format, the best for --budget-mb (default: ternary where it is trained; else"
        f" auto at {DEFAULT_BITS} bits a weight, or int4 where there are no calibration pairs)",
    )  # fmt: skip
    parser.add_argument("--budget-mb", type=positive, metavar="MB", help="with --method auto: size of both graphs")
    parser.add_argument(
        "--bits", type=positive, help=f"with --method auto: bits a weight instead of a size (default: {DEFAULT_BITS})"
    )
    parser.add_argument("--plan", type=Path, metavar="YAML", help="rules of your own instead of the method's")
    parser.add_argument("--dense", action="store_true", help="ternary matrices at 1.6 bits a weight in the file, not 2")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write; replaces a bundle")
    parser.add_argument("--name", help="name of the model (default: the folder's)")
    parser.add_argument("--data-cache", type=Path, metavar="DIR", help="scenes that train-demo rendered")
    parser.add_argument("--images", type=Path, metavar="PATH", help="your images with captions: see docs/compress.md")
    parser.add_argument("--plain-captions", action="store_true",
                        help="of --images: lower-case words, as train-photos teaches them")  # fmt: skip
    parser.add_argument("--steps", type=not_negative, help="training steps; 0: no training (default: by method)")
    parser.add_argument(
        "--solver", choices=SOLVERS,
        help="round, or solve against calibration pairs, instead of training or, with --steps, before it (default: "
        "gptq where there are pairs and no training); awq, scaling before rounding, is there to compare with",
    )  # fmt: skip
    parser.add_argument("--saliency", choices=SALIENCY, default=SALIENCY[0],
                        help="with a solver: tokens count by the model's answers (default), by the error of their block"
                             " (VLMQ), or all alike")  # fmt: skip
    parser.add_argument("--pairs", type=count, default=128, help="calibration pairs of a solver (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=["auto", *PRECISIONS], default="auto",
        help="of the passes without training (default: bfloat16 for large models where the processor has it)",
    )  # fmt: skip
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
    processes = Processes.join()
    console = open_console() if processes.leads else Console(quiet=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    choose_method(args)
    check_options(args)
    if not args.plan_only:
        check_bundle_replaceable(args.out)
    plan = None if args.plan is None else read_plan(args.plan)
    source = Source.read(args.folder, variant_of(args), plan)
    data = None if args.data_cache is None and args.images is None else open_data(args, console)
    steps = default_steps(args) if args.steps is None else args.steps
    require(steps > 0 or processes.count == 1, f"{processes.count} processes and no training to share",
            "start one process, or give --steps")  # fmt: skip
    solves = steps == 0 and data is not None and (args.method == "auto" or bool(source.solvable))
    solver = args.solver or ("gptq" if solves else "rtn")
    if args.plan_only and args.method != "auto":
        rows = stored_rows(planned_rows(source.weights, source.table), args.dense)
        console.print(plan_table(rows, f"{args.folder.name}: {source.plan.name}"))
        console.print(f"both graphs: {planned_bytes(source.weights, source.plan, args.dense) / 1e6:.1f} MB")
        return 0
    training = None
    require(steps == 0 or solver != "awq", "training does not begin with awq, which changes norms too",
            "name another --solver, or give --steps 0")  # fmt: skip
    if args.method == "auto":
        require(steps == 0, "an automatic plan is not trained", "give --steps 0, or a --method")
    solved = None
    if solver != "rtn" or args.method == "auto":
        who = "an automatic plan" if args.method == "auto" else solver
        require(data is not None, f"{who} needs calibration pairs", "give --images PATH or --data-cache DIR")
        pairs = args.pairs if data.usable is None else min(args.pairs, data.usable)
        if pairs < args.pairs:
            console.print(f"{pairs} calibration pairs instead of {args.pairs}: more images would do better")
        config = TrainingFree(
            solver, args.saliency, pairs, budget_mb=args.budget_mb, bits=args.bits, precision=args.precision,
            dense_ternary=args.dense,
        )  # fmt: skip
        with processes.lead_first():
            source, weights, rows, training = compress_without_training(
                source,
                data.calibration,
                config,
                work_folder(args),
                args.resume == "auto" or not processes.leads,
                console,
            )
        training["options"]["seed"] = args.seed
        solved = weights
    else:
        weights, rows = source.initial()
        console.print(plan_table(stored_rows(rows, args.dense), f"{args.folder.name}: {source.plan.name}"))
    if steps > 0:
        require(data is not None, "training needs data",
                "give --images PATH or --data-cache DIR, or --steps 0 to round without training")  # fmt: skip
        bf16 = multiplies_bfloat16(processes.device.type)
        config = QatConfig(steps=steps, latent_rate=args.latent_rate, other_rate=args.other_rate, bf16=bf16)
        weights, rows, curve = train(args, source, config, data, processes, console, solved)
        processes.leave()
        if not processes.leads:
            return 0
        console.print(plan_table(stored_rows(rows, args.dense), f"{args.folder.name}: {args.method}, trained"))
        training = training_report(config, curve) | {"calibration": training and training["options"]}
    name = args.name or args.folder.resolve().name
    rows = stored_rows(rows, args.dense)
    write_bundle(source, weights, args.out, name, report_of(source, rows, training, None), args.dense)
    if args.heldout > 0:
        heldout = evaluate(
            args, source, data or RenderedScenes(args.folder, None, args.seed), console
        )  # through the graphs just written, then sealed into the report
        if heldout is not None:
            write_bundle(source, weights, args.out, name, report_of(source, rows, training, heldout), args.dense)
    info = Bundle.load(args.out, verify=False).info
    console.print(f"{args.out}: {info.name} ({info.variant}), {info.weight_bytes / 1e6:.2f} MB of weights")
    return 0


def open_data(args: argparse.Namespace, console: Console) -> CompressionData:
    if args.images is None:
        return RenderedScenes(args.folder, args.data_cache, args.seed)
    require(args.data_cache is None, "--images and --data-cache both name the data", "give one of them")
    pairs = open_pairs(args.images)
    with counted("images looked at", len(pairs), console) as looked:
        data = CaptionedPhotos(args.folder, pairs, args.seed, args.heldout, args.plain_captions, looked)
    if data.skipped:
        console.print(f"{args.images}: {skipped_text(data.skipped)}", highlight=False)
    if args.heldout and not data.unseen:
        console.print(
            f"{args.images}: {len(data.good)} images are too few to hold a fifth out: the bundle is not measured\n"
            "  remedy: give more images, or measure it on others: edge-vlm-compress evaluate",
            highlight=False,
        )
    return data


def choose_method(args: argparse.Namespace) -> None:
    """Where none is given: without training never a ternary model, which would babble."""
    unsized = args.budget_mb is None and args.bits is None
    if args.method == "auto" and unsized:
        args.bits = DEFAULT_BITS
    if args.method is not None:
        return
    trains = args.steps != 0 and (bool(args.steps) or args.solver is None)
    if not unsized:
        args.method = "auto"
    elif trains or args.plan is not None:
        args.method = "ternary"
    elif args.plan_only or (args.images is None and args.data_cache is None):
        args.method = "int4"
    else:
        args.method, args.bits = "auto", DEFAULT_BITS


def check_options(args: argparse.Namespace) -> None:
    automatic, sizes = args.method == "auto", [s for s in (args.budget_mb, args.bits) if s is not None]
    require(
        len(sizes) == int(automatic),
        "--budget-mb and --bits are sizes of an automatic plan",
        "give one of the two, and with --method auto",
    )
    require(not (automatic and args.plan), "--plan and --method auto both decide the plan", "give one of them")
    require(not (automatic and args.plan_only), "an automatic plan is measured", "leave out --plan-only")


def variant_of(args: argparse.Namespace) -> str:
    return "mixed" if args.method == "auto" or args.plan is not None else args.method


def default_steps(args: argparse.Namespace) -> int:
    return STEPS.get(variant_of(args), 0) if args.solver is None else 0


def work_folder(args: argparse.Namespace) -> Path:
    return args.work or args.out.with_name(f"{args.out.name}.work")


def train(
    args: argparse.Namespace, source: Source, config: QatConfig, data: CompressionData, processes: Processes,
    console: Console, solved: ModelWeights | None,
):  # fmt: skip
    """QAT on the training data, up to the last step or on from its checkpoint; from the codes of a solver, if any."""
    torch.manual_seed(args.seed)
    with counted(f"{args.method}: step", config.steps, console) as advance:
        return train_quantised(
            source,
            data.training(args.batch),
            config,
            work_folder(args),
            args.resume == "auto",
            lambda progress: advance(progress.step, losses_text(progress)),
            watcher(data.heldout(args.watch) if processes.leads else [], data, console),
            processes,
            lambda cost: console.print(f"{args.method}, {config.steps} steps: {cost}", highlight=False),
            solved,
        )


def watcher(
    samples: Sequence[Sample], data: CompressionData, console: Console
) -> Callable[[torch.nn.Module], None] | None:
    """Prints how the quantised model captions held-out images; None for none."""
    if not samples:
        return None
    images = [data.image.square(sample.image_rgb) for sample in samples]
    firsts = [sample.references[0] for sample in samples]

    def watch(model: torch.nn.Module) -> None:
        captions = greedy_captions(model, data.tokenizer, data.prompt, images, normalise=data.image.normalised)
        cider = caption_metrics(captions, [sample.references for sample in samples], meteor=False)["cider"]
        scores = answer_log_probabilities(model, data.tokenizer, data.prompt, images, firsts, data.image.normalised)
        console.print(
            f"{len(samples)} held-out images: CIDEr {cider:.3f}, perplexity {from_log_probabilities(scores):.4f}",
            highlight=False,
        )

    return watch


def losses_text(progress: QatProgress) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())


def evaluate(args: argparse.Namespace, source: Source, data: CompressionData, console: Console) -> dict | None:
    """Captions, perplexity, memory and speed of the bundle on images that it was not made with; warns where the
    compressed model has lost its words. None where there are no such images."""
    samples = data.heldout(args.heldout)
    if not samples:
        return None
    with counted("held-out images", len(samples), console) as advance:
        result = evaluate_bundle(args.out, samples, caption_scores, advance)
    values = {key: value for key, value in result.to_json().items() if key not in ("captions", "path")}
    shown = ", ".join(f"{key} {value:.3f}" for key, value in result.metrics.items())
    console.print(f"held-out, through .tflite: perplexity {result.perplexity:.3f}, {shown}")
    if all(line.method.bits >= 8 for line in source.table):  # nothing that could have lost its words
        return values
    few = samples[:JUDGED]
    before = streamed_perplexity(StreamedVlm.open(args.folder), sample_batches(args.folder, few))
    after = result.perplexity if len(few) == len(samples) else bundle_perplexity(args.out, few)
    console.print(
        f"on {len(few)} of them: perplexity {after:.3f}, {after / before:.3f} times the float model's {before:.3f}",
        highlight=False,
    )
    warning = verdict(after, before, variant_of(args))
    if warning:
        console.print(warning, highlight=False)
    return {**values, "judged": {"samples": len(few), "perplexity": after, "float_perplexity": before}}
