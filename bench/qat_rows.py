# SPDX-License-Identifier: Apache-2.0
"""How many steps of quantisation-aware training k-means initialisation saves against absmean: two short runs each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import torch

from bench.rows import Row
from bench.training_free import inner_blocks, read_json
from edge_vlm.files import make_folder, write_json
from offline_compress.quantize.replace import quantise_model
from offline_compress.train.compression import Source, load_float_model
from offline_compress.train.qat import BatchSource, QatConfig, QatTrainer

GOAL = 0.5
RULES = {"k-means": "ternary", "absmean": "ternary-absmean"}
Perplexity = Callable[[torch.nn.Module], float]


def qat_rows(
    folder: Path, batches: Callable[[int], BatchSource], perplexity: Perplexity, steps: int, every: int, seeds: int,
    work: Path,
) -> list[Row]:  # fmt: skip
    """``batches`` and the runs by seed. Curves are kept in ``work``: an interrupted benchmark goes on."""
    shares, notes = [], []
    for seed in range(seeds):
        curves = {
            rule: curve(folder, method, batches(seed), perplexity, steps, every, work / f"qat-{rule}-{seed}.json")
            for rule, method in RULES.items()
        }
        final = curves["absmean"][-1][1]
        reached = next((step for step, value in curves["k-means"] if value <= final), None)
        notes.append(f"absmean ends at {final:.3f}, k-means begins at {curves['k-means'][0][1]:.3f}")
        if reached is not None:
            shares.append(reached / steps)
    value = mean(shares) if len(shares) == seeds else None
    note = f"{steps} steps, {seeds} seeds; {notes[0]}" + ("" if value is not None else "; not reached")
    return [Row("demo: steps to absmean's final perplexity, k-means / absmean", value, "", GOAL, "lower", note)]


def curve(
    folder: Path, method: str, batches: BatchSource, perplexity: Perplexity, steps: int, every: int, path: Path
) -> list[tuple[int, float]]:
    """(step, perplexity) from before the first step on, every ``every`` steps."""
    known = read_json(path)
    if known and known["steps"] == steps:
        return [tuple(point) for point in known["points"]]
    source = Source.read(folder, "mixed", inner_blocks(folder, method))
    teacher = load_float_model(folder)
    student = copy.deepcopy(teacher)
    quantise_model(student, source.table)
    trainer = QatTrainer(student, teacher, batches, QatConfig(steps=steps, checkpoint_every=every))
    points = [(0, perplexity(student.eval()))]

    def note(done: QatTrainer) -> None:
        points.append((done.step, perplexity(student.eval())))
        student.train()

    trainer.run(save=note)
    make_folder(path.parent)
    write_json(path, {"steps": steps, "points": points})
    return points
