# SPDX-License-Identifier: Apache-2.0
"""How many steps of quantisation-aware training k-means initialisation saves against absmean: two short runs each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import mean

import torch

from bench.block_plans import inner_blocks
from bench.kept import batches_digest
from bench.rows import Row
from bench.training_free import Subject
from offline_compress.quantize.replace import quantise_model
from offline_compress.train.compression import Source, load_float_model
from offline_compress.train.qat import BatchSource, QatConfig, QatTrainer

GOAL = 0.5
RULES = {"k-means": "ternary", "absmean": "ternary-absmean"}
Perplexity = Callable[[torch.nn.Module], float]
Points = list[tuple[int, float]]  # (step, perplexity)


def qat_rows(
    subject: Subject, batches: Callable[[int], BatchSource], perplexity: Perplexity, steps: int, every: int, seeds: int
) -> list[Row]:
    """``batches`` of training by seed; ``perplexity`` is that of the subject's samples."""
    name = f"{subject.name}: steps to absmean's final perplexity, k-means / absmean"
    config = QatConfig(steps=steps, checkpoint_every=every)
    shares, notes = [], []
    for seed in range(seeds):
        curves = {rule: kept_curve(subject, method, seed, batches(seed), perplexity, config)
                  for rule, method in RULES.items()}  # fmt: skip
        if None in curves.values():
            return [Row(name, None, "", GOAL, note=f"seed {seed} was not measured")]
        final = curves["absmean"][-1][1]
        reached = next((step for step, value in curves["k-means"] if value <= final), None)
        notes.append(f"absmean ends at {final:.3f}, k-means begins at {curves['k-means'][0][1]:.3f}")
        if reached is not None:
            shares.append(reached / steps)
    value = mean(shares) if len(shares) == seeds else None
    note = f"{steps} steps, {seeds} seeds; {notes[0]}" + ("" if value is not None else "; not reached")
    return [Row(name, value, "", GOAL, "lower", note)]


def kept_curve(
    subject: Subject, method: str, seed: int, batches: BatchSource, perplexity: Perplexity, config: QatConfig
) -> Points | None:
    """None where it is not known and nothing may be measured. The first batch stands for the training data: it
    depends on their seed, number and size."""
    options = config.identity() | {"checkpoint_every": config.checkpoint_every}
    identity = {"method": method, "options": options, **subject.identity, "seed": seed,
                "data": batches_digest([batches.batch(0)])}  # fmt: skip
    rule = next(rule for rule, known in RULES.items() if known == method)
    figures = subject.kept.of(
        f"qat-{rule}-{seed}", identity, lambda: {"points": curve(subject, method, batches, perplexity, config)}
    )
    return None if figures is None else [tuple(point) for point in figures["points"]]


def curve(subject: Subject, method: str, batches: BatchSource, perplexity: Perplexity, config: QatConfig) -> Points:
    """From before the first step on, at every checkpoint."""
    source = Source.read(subject.folder, "mixed", inner_blocks(subject.folder, method))
    teacher = load_float_model(subject.folder)
    student = copy.deepcopy(teacher)
    quantise_model(student, source.table)
    trainer = QatTrainer(student, teacher, batches, config)
    points = [(0, perplexity(student.eval()))]

    def note(done: QatTrainer) -> None:
        points.append((done.step, perplexity(student.eval())))
        student.train()

    trainer.run(save=note)
    return points
