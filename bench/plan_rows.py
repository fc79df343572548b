# SPDX-License-Identifier: Apache-2.0
"""The automatic plan against uniform ones of the same bytes, through .tflite."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.rows import Row
from bench.training_free import Subject
from edge_vlm.runtime.bundle import Bundle
from offline_compress.evaluate.pair_evaluation import evaluate_tflite
from offline_compress.export.checkpoint import read_config
from offline_compress.quantize.plan import default_plan
from offline_compress.train.calibration import automatic_plan, calibrated
from offline_compress.train.compression import Source, report_of, write_bundle

UNIFORM = ("int2-g64", "int3-g64")


def plan_rows(subject: Subject, console: Console) -> list[Row]:
    """Goals of the automatic plan are the uniform one's own figures at the same bytes."""
    rows = []
    for method in UNIFORM:
        with TemporaryDirectory(prefix="edge_vlm_plans_") as folder:
            uniform, size = measured(subject, method, None, Path(folder))
            found, bytes_ = measured(subject, method, size, Path(folder))
        note = f"{size / 1e6:.2f} MB, automatic {bytes_ / 1e6:.2f} MB"
        name = f"{subject.name}: automatic plan at the bytes of {method}"
        rows += [
            Row(f"{name}: perplexity", found.token_perplexity, "", uniform.token_perplexity, note=note),
            Row(f"{name}: CIDEr", found.metrics["cider"], "", uniform.metrics["cider"], "higher", note),
        ]
        console.print(f"{name}: {found.token_perplexity:.4f} against {uniform.token_perplexity:.4f}", highlight=False)
    return rows


def measured(subject: Subject, method: str, budget: int | None, folder: Path):
    """Evaluation and bytes of both graphs; with a ``budget`` the plan is found, else all blocks get ``method``."""
    config, batches = read_config(subject.folder), subject.batches(0)
    tied = bool(config.get("tie_word_embeddings", True))
    source = Source.read(subject.folder, "mixed", default_plan(config, method, tied))
    if budget is not None:
        source, _ = automatic_plan(source, batches, budget)
    weights, rows = calibrated(source, batches, "gptq", True)
    bundle = write_bundle(source, weights, folder / "bundle", subject.name, report_of(source, rows, None, None))
    return evaluate_tflite(bundle, subject.samples, all_references=False), Bundle.load(bundle).info.weight_bytes
