# SPDX-License-Identifier: Apache-2.0
"""What quantisation-aware training with distillation keeps: trained bundles beside the float one, through .tflite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.rows import Row
from offline_compress.evaluate.pair_evaluation import PairEvaluation, evaluate_tflite
from offline_compress.evaluate.samples import Sample
from offline_compress.train.progress import counted

CIDER_GOAL, PERPLEXITY_GOAL = 0.98, 1.03


def trained_rows(subject: str, bundles: Path, samples: Sequence[Sample], console: Console) -> list[Row]:
    """``bundles`` holds original, ternary and binary; what it lacks leaves rows that are not measured."""
    done: dict[str, PairEvaluation] = {}
    for name in ("original", "ternary", "binary"):
        if (bundles / name / "bundle.json").is_file():
            with counted(f"{subject}: {name}", len(samples), console) as progress:
                done[name] = evaluate_tflite(bundles / name, samples, progress, all_references=False)
    return ratio_rows(subject, done, bundles)


def ratio_rows(subject: str, done: dict[str, PairEvaluation], bundles: Path) -> list[Row]:
    base, rows = done.get("original"), []
    for name in ("ternary", "binary"):
        small = done.get(name)
        missing = [what for what in ("original", name) if what not in done]
        note = f"no {bundles / missing[0]}" if missing else f"{small.samples} images"
        cider = None if missing else small.metrics["cider"] / base.metrics["cider"]
        perplexity = None if missing else small.token_perplexity / base.token_perplexity
        goals = (CIDER_GOAL, PERPLEXITY_GOAL) if name == "ternary" else (None, None)
        rows.append(Row(f"{subject}: {name}, trained: CIDEr / float", cider, "", goals[0], "higher", note))
        rows.append(Row(f"{subject}: {name}, trained: perplexity / float", perplexity, "", goals[1], "lower", note))
    return rows
