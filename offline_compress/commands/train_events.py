# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress train-events``: trains the event classifier, writes its model, measures it dense and sparse."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from edge_vlm.commands.numbers import count, not_negative, positive

CHECKPOINT, FRAMES, MODEL = "checkpoint.pt", "frames.npz", "model"
VARIANTS = {"float32": "original", "int8": "int8"}
METRICS, CONFUSION = "metrics.json", "confusion.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task", choices=["nmnist", "gestures", "dvs128"], help="gestures are rendered; the others need --data"
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="N-MNIST folder or .npz; DVS128 Gesture folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, metrics, DIR/model")
    parser.add_argument(
        "--method", choices=sorted(VARIANTS), default="float32", help="of the matrices (default: %(default)s)"
    )
    parser.add_argument("--steps", type=not_negative, help="training steps (default: the task's)")
    parser.add_argument("--batch", type=count, help="event frames in a step (default: the task's)")
    parser.add_argument("--rate", type=positive, help="learning rate (default: the task's)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of weights and data order (default: %(default)s)")
    parser.add_argument("--threads", type=count, help="CPU threads (default: all cores)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the checkpoint where there is one"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from edge_vlm.errors import InputError
    from offline_compress.export.event_model_writer import check_event_model_replaceable
    from offline_compress.train.event_tasks import event_tasks
    from offline_compress.train.progress import counted, open_console

    console = open_console()
    if args.threads:
        torch.set_num_threads(args.threads)
    task = event_tasks()[args.task]
    if task.needs_path and args.data is None:
        raise InputError(f"{task.name} needs its data set", "name it with --data PATH")
    given = {name: getattr(args, name) for name in ("steps", "batch", "rate") if getattr(args, name) is not None}
    task = replace(task, training=replace(task.training, **given))
    check_event_model_replaceable(args.out / MODEL)
    frames = draw(task, args, console)
    model = train(task, frames, args, console, counted)
    folder = export(task, model, args)
    measure(task, folder, args, console)
    console.print(f"model in {folder}")
    return 0


def draw(task, args: argparse.Namespace, console):
    from offline_compress.train.event_frames import cached_frames

    source = f"{task.name} {args.data.resolve() if args.data else ''}"
    return cached_frames(
        args.out / FRAMES,
        lambda: (clip for clip in task.clips(args.data) if not clip.is_test),
        task.frames,
        source,
        lambda done: console.print(f"event frames of {done} clips", highlight=False) if done % 100 == 0 else None,
    )


def train(task, frames, args: argparse.Namespace, console, counted):
    from offline_compress.models.event_vit import build_event_vit
    from offline_compress.train.checkpoint import load_checkpoint, save_checkpoint
    from offline_compress.train.event_batches import EventBatches
    from offline_compress.train.event_training import EventTrainer

    batches = EventBatches(frames, task.surface, task.augmentation, task.schedule, task.training.batch, args.seed)
    trainer = EventTrainer(build_event_vit(task.shape, task.classes, args.seed), batches, task.training)
    checkpoint = args.out / CHECKPOINT
    if args.resume == "auto" and checkpoint.is_file():
        trainer.restore(load_checkpoint(checkpoint), checkpoint)
        console.print(f"going on after step {trainer.step} of {checkpoint}")
    with counted(f"training {task.name}", task.training.steps, console) as progress:
        return trainer.run(
            lambda p: progress(
                p.step, note=f"loss {p.loss:.3f}, right {p.accuracy:.0%}, {p.samples_per_s:.0f} samples/s"
            ),
            lambda state: save_checkpoint(state, checkpoint),
        )


def export(task, model, args: argparse.Namespace) -> Path:
    from offline_compress.export.event_model_writer import EventModelDescription, event_weights, export_event_model

    description = EventModelDescription(
        name=f"edge-vlm-{task.name}",
        variant=VARIANTS[args.method],
        classes=task.classes,
        surface=task.surface,
        window_ms=task.window_ms,
        memory_s=task.memory_s,
        sttf=task.sttf.to_json(),
    )
    weights = quantised(event_weights(model.tensors(), task.shape.layers), args.method)
    return export_event_model(weights, task.shape, description, args.out / MODEL)


def quantised(weights, method: str):
    """Every matrix rounded to the nearest code."""
    from offline_compress.quantize.formats import method_named
    from offline_compress.quantize.plan import PlannedMatrix
    from offline_compress.quantize.report import quantise_weights

    table = [PlannedMatrix(name, method_named(method), "the whole event model") for name in weights.linears]
    return weights.with_linears(quantise_weights(weights, table)[0])


def measure(task, folder: Path, args: argparse.Namespace, console) -> None:
    """Dense and sparse accuracy of the exported file on the test clips: metrics.json, confusion.png."""
    from edge_vlm.events.classifier import EventClassifier
    from edge_vlm.events.model import EventModel
    from edge_vlm.files import write_json
    from offline_compress.evaluate.confusion_picture import draw_confusion
    from offline_compress.evaluate.event_accuracy import event_accuracy

    clips = list(task.test_clips(args.data))
    if not clips:
        console.print("no test clips: not measured")
        return
    results = {}
    for kind, reuse in (("dense", False), ("sparse", True)):
        result = event_accuracy(EventClassifier(EventModel.load(folder), reuse=reuse), clips)
        results[kind] = result
        console.print(
            f"{kind}: {result.accuracy:.1%} of {len(clips)} clips right, {result.tokens.mean():.1f} of "
            f"{result.tokens_total} tokens a step ({result.tokens_share:.1%}), {result.ms:.2f} ms a step",
            highlight=False,
        )
    write_json(args.out / METRICS, {kind: result.to_json() for kind, result in results.items()})
    draw_confusion(results["sparse"], f"{task.name}: {len(clips)} test clips, tokens reused", args.out / CONFUSION)
