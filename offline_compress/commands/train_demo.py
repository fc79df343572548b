# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress train-demo``: renders robot scenes, trains the demo captioner on them, measures it."""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import replace
from pathlib import Path

from edge_vlm.commands.numbers import count, not_negative, positive

SCENES = {"train": 28000, "heldout": 600}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, curve, DIR/model")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="rendered scenes (default: DIR/cache)")
    parser.add_argument("--steps", type=not_negative, default=4000, help="training steps (default: %(default)s)")
    parser.add_argument("--minutes-budget", type=positive, metavar="M", help="as many steps as M minutes allow here")
    parser.add_argument("--scenes", type=count, default=SCENES["train"], help="training scenes (default: %(default)s)")
    parser.add_argument("--heldout", type=count, default=SCENES["heldout"], help="held-out ones (default: %(default)s)")
    parser.add_argument("--batch", type=count, default=24, help="images in a step (default: %(default)s)")
    parser.add_argument("--rate", type=positive, default=1.2e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of weights and data order (default: %(default)s)")
    parser.add_argument("--threads", type=count, help="CPU threads (default: all cores)")
    parser.add_argument("--checkpoint-every", type=count, default=200, metavar="N", help="steps (default: %(default)s)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the checkpoint where there is one"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from offline_compress.models.dataset import open_split, render_splits
    from offline_compress.train.demo_training import DemoTraining
    from offline_compress.train.float_training import FloatTrainingConfig
    from offline_compress.train.progress import counted, open_console

    console = open_console()
    if args.threads:
        torch.set_num_threads(args.threads)
    cache = args.cache_dir or args.out / "cache"
    counts = {"heldout": args.heldout, "train": args.scenes}
    with counted("scenes", sum(counts.values()), console) as progress:
        render_splits(cache, counts, torch.get_num_threads(), lambda done, total: progress(done))
    scenes, heldout = open_split(cache, "train", args.scenes), open_split(cache, "heldout", args.heldout)
    config = FloatTrainingConfig(steps=args.steps, rate=args.rate, checkpoint_every=args.checkpoint_every)
    training = DemoTraining(args.out, scenes, heldout, config, args.batch, args.seed, console.print)
    if args.minutes_budget:
        begun = training.planned_steps() if args.resume == "auto" else None
        config = replace(config, steps=begun or steps_within(training.trainer, args.minutes_budget))
        training = DemoTraining(args.out, scenes, heldout, config, args.batch, args.seed, console.print)
    with counted("steps", config.steps, console) as progress:
        metrics = training.run(args.resume == "auto", lambda p: progress(p.step, note=note(p)))
    console.print(f"held-out: CIDEr {metrics['cider']:.3f}, BLEU-4 {metrics['bleu_4']:.3f}, "
                  f"ROUGE-L {metrics['rouge_l']:.3f}, METEOR {metrics['meteor'] or metrics.get('meteor_note')}, "
                  f"perplexity {metrics['perplexity']:.4f}")  # fmt: skip
    console.print(f"model in {args.out / 'model'}")
    return 0


def note(progress) -> str:
    return (f"loss {progress.losses['answer']:.3f}, patches {progress.losses['dense']:.3f}, "
            f"{progress.samples_per_s:.0f} samples/s")  # fmt: skip


def steps_within(trainer, minutes: float, tries: int = 6) -> int:
    """How many steps this machine makes in the time, measured on a copy that is thrown away."""
    from offline_compress.train.float_training import FloatTrainer

    probe = FloatTrainer(copy.deepcopy(trainer.model), trainer.batches, trainer.config)
    probe.train_step()
    began = time.perf_counter()
    for _ in range(tries):
        probe.train_step()
    return max(1, int(minutes * 60 / ((time.perf_counter() - began) / tries)))
