# SPDX-License-Identifier: Apache-2.0
"""What quantisation-aware training with distillation keeps, over seeds: bundles made by the compress command, as a user
would make them, through .tflite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean

import yaml
from rich.console import Console

from bench.block_plans import all_blocks
from bench.rows import Row, seeds_note
from bench.training_free import Measured, Subject, weight_mb
from edge_vlm.errors import EdgeVlmError
from edge_vlm.files import make_folder, write_text
from offline_compress.evaluate.pair_evaluation import evaluate_tflite

CIDER_GOAL, PERPLEXITY_GOAL = 0.98, 1.03  # of ternary weights
SOLVED = ("--solver", "descent", "--pairs", "128")
ALL_BLOCKS = "ternary in all blocks"  # the others are default plans: ternary or binary in the inner blocks
METHODS = {"ternary": SOLVED, "binary": (), ALL_BLOCKS: SOLVED}
NO_LOOK = ("--heldout", "0", "--watch", "0")  # the bundle is measured here, on other images


def trained_rows(subject: Subject, data: Sequence[str], steps: int, seeds: int, console: Console) -> list[Row]:
    """``data``: the compress command's options that name what is learned from."""
    base, rows = subject.measure(None, 0, console), []
    for method in METHODS:
        tries = [trained(subject, method, seed, data, steps, console) for seed in range(seeds)]
        tries = [found for found in tries if found is not None]
        for what, label, goal, better in (("cider", "CIDEr", CIDER_GOAL, "higher"),
                                          ("perplexity", "perplexity", PERPLEXITY_GOAL, "lower")):  # fmt: skip
            goal, name = goal if method == "ternary" else None, f"{subject.name}: {method}, trained: {label} / float"
            if base is None or not tries:
                rows.append(Row(name, None, "", goal, better, "not measured"))
                continue
            ratios = [getattr(found, what) / getattr(base, what) for found in tries]
            note = f"{steps} steps, {seeds_note(ratios)}, {tries[0].weight_mb:.1f} of {base.weight_mb:.1f} MB"
            rows.append(Row(name, mean(ratios), "", goal, better, note))
    return rows


def trained(
    subject: Subject, method: str, seed: int, data: Sequence[str], steps: int, console: Console
) -> Measured | None:
    """None where it is not known and nothing may be measured. An interrupted training goes on."""
    words = [*METHODS[method], "--steps", str(steps), "--seed", str(seed)]
    options = [word for word in data if word.startswith("--")]  # the data themselves: by the pairs calibrated on
    identity = {"words": words, "method": method, "options": options, **subject.calibrated_identity(seed)}
    if method == ALL_BLOCKS:
        identity["plan"] = all_blocks(subject.folder, "ternary").to_json()

    def measure() -> dict[str, object]:
        bundle = subject.kept.folder / f"{method.replace(' ', '_')}-{steps}-{seed}"
        command = [sys.executable, "-m", "offline_compress", "compress", str(subject.folder), "--out", str(bundle),
                   *plan_words(subject, method), *words, *NO_LOOK, *data]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            raise EdgeVlmError(f"training of {bundle} failed", "see above; run again to go on from there")
        result = evaluate_tflite(bundle, subject.samples, all_references=False)
        said = f"perplexity {result.token_perplexity:.3f}, CIDEr {result.metrics['cider']:.3f}"
        console.print(f"{subject.name}: {method}, {steps} steps, seed {seed}: {said}", highlight=False)
        return asdict(Measured(method, seed, result.token_perplexity, result.metrics["cider"], weight_mb(bundle)))

    figures = subject.kept.of(f"trained-{method}-{seed}", identity, measure)
    return None if figures is None else Measured(**figures)


def plan_words(subject: Subject, method: str) -> tuple[str, str]:
    """The compress command's option that says what every matrix gets. Raises OutputError."""
    if method != ALL_BLOCKS:
        return ("--method", method)
    rules = [
        {"modules": rule.pattern, "method": rule.method, "why": rule.why}
        for rule in all_blocks(subject.folder, "ternary").rules
    ]
    path = subject.kept.folder / "all_blocks.yaml"
    make_folder(path.parent)
    write_text(path, yaml.safe_dump({"rules": rules}))
    return ("--plan", str(path))
