# SPDX-License-Identifier: Apache-2.0
"""The automatic plan against uniform ones of the same bytes, through .tflite, over seeds of calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.block_plans import all_blocks
from bench.rows import Row, seeds_note
from bench.training_free import Subject
from edge_vlm.runtime.bundle import Bundle
from offline_compress.evaluate.pair_evaluation import evaluate_tflite
from offline_compress.train.calibration import automatic_plan, calibrated
from offline_compress.train.compression import Source, report_of, write_bundle

UNIFORM = ("int2-g64", "int3-g64")
Figures = dict[str, float]  # perplexity, cider, bytes
Pair = tuple[Figures, Figures]  # of the uniform plan and of the automatic one at its bytes


def plan_rows(subject: Subject, seeds: int, console: Console) -> list[Row]:
    """Goals of the automatic plan are the uniform one's own figures at the same bytes."""
    rows = []
    for method in UNIFORM:
        pairs = [pair for seed in range(seeds) if (pair := both_plans(subject, method, seed, console)) is not None]
        rows += compared(f"{subject.name}: automatic plan at the bytes of {method}", pairs)
    return rows


def both_plans(subject: Subject, method: str, seed: int, console: Console) -> Pair | None:
    """None where they are not known and nothing may be measured."""
    uniform = kept(subject, method, seed, None, console)
    automatic = None if uniform is None else kept(subject, method, seed, int(uniform["bytes"]), console)
    return None if automatic is None else (uniform, automatic)


def kept(subject: Subject, method: str, seed: int, budget: int | None, console: Console) -> Figures | None:
    label = f"plan {method if budget is None else f'auto at {method}'}"
    identity = {"plan": label, "budget": budget, **subject.calibrated_identity(seed)}
    return subject.kept.of(f"{label}-{seed}", identity, lambda: measured(subject, label, method, seed, budget, console))


def measured(
    subject: Subject, label: str, method: str, seed: int, budget: int | None, console: Console
) -> Figures:  # fmt: skip
    """With a ``budget`` of bytes of both graphs the plan is found, else all blocks get ``method``."""
    batches = subject.batches(seed)
    source = Source.read(subject.folder, "mixed", all_blocks(subject.folder, method))
    if budget is not None:
        source, _ = automatic_plan(source, batches, budget)
    weights, rows = calibrated(source, batches, "gptq", "answers")
    with TemporaryDirectory(prefix="edge_vlm_plans_") as folder:
        bundle = write_bundle(
            source, weights, Path(folder) / "bundle", subject.name, report_of(source, rows, None, None)
        )
        result = evaluate_tflite(bundle, subject.samples, all_references=False)
        weight_bytes = Bundle.load(bundle).info.weight_bytes
    console.print(f"{subject.name}: {label}, seed {seed}: perplexity {result.token_perplexity:.4f}, "
                  f"CIDEr {result.metrics['cider']:.3f}, {weight_bytes / 1e6:.2f} MB", highlight=False)  # fmt: skip
    return {"perplexity": result.token_perplexity, "cider": result.metrics["cider"], "bytes": weight_bytes}


def compared(name: str, pairs: Sequence[Pair]) -> list[Row]:
    """Means over seeds, the uniform plan's as the goal."""
    rows = []
    for what, better in (("perplexity", "lower"), ("cider", "higher")):
        label = f"{name}: {'CIDEr' if what == 'cider' else what}"
        if not pairs:
            rows.append(Row(label, None, better=better, note="not measured"))
            continue
        uniform, automatic = ([figures[what] for figures in side] for side in zip(*pairs, strict=True))
        size, found = (mean(figures["bytes"] for figures in side) / 1e6 for side in zip(*pairs, strict=True))
        note = f"{seeds_note(automatic)}, uniform's {seeds_note(uniform)}; {size:.3f} MB, automatic {found:.3f} MB"
        rows.append(Row(label, mean(automatic), "", mean(uniform), better, note))
    return rows
