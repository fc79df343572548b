# SPDX-License-Identifier: Apache-2.0
"""What each ingredient of compression without training gains: bundles of one model by many methods, through .tflite.

Every bundle is measured once and its figures kept (`bench.kept`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from bench.block_plans import PLANS
from bench.kept import KeptFigures, batches_digest, model_digest, samples_digest
from offline_compress.evaluate.pair_evaluation import evaluate_tflite
from offline_compress.evaluate.samples import Sample
from offline_compress.train.calibration import calibrated
from offline_compress.train.compression import Source, report_of, write_bundle

Batches = Callable[[int], Sequence[Mapping[str, torch.Tensor]]]  # of a seed


@dataclass(frozen=True)
class Variant:
    """``method``: a method of plans, for the ``blocks`` (of `PLANS`) of both halves. ``solver`` "rtn": round to
    nearest, without calibration. ``saliency`` as in `SolveConfig`."""

    method: str
    solver: str = "rtn"
    saliency: str = "none"
    blocks: str = "inner"

    @property
    def name(self) -> str:
        where = "" if self.blocks == "inner" else f" in {self.blocks} blocks"
        return f"{self.method}{where}, {self.solver}{SALIENCY_LABELS[self.saliency]}"


SALIENCY_LABELS = {"none": "", "block": " + saliency in blocks", "answers": " + saliency"}
ABLATION = (
    Variant("binary"), Variant("ternary-absmean"), Variant("ternary-twn"), Variant("ternary"),
    Variant("ternary", "gptq"), Variant("ternary", "gptq", "block"), Variant("ternary", "gptq", "answers"),
    Variant("ternary", "descent"), Variant("ternary", "descent", "answers"),
    Variant("ternary", "descent", "answers", "all"),
)  # fmt: skip
INTEGERS = (
    Variant("int2-g128"), Variant("int2-g128", "awq"), Variant("int2-g128", "gptq"),
    Variant("int2-g128", "gptq", "block"),
    Variant("int2-g128", "gptq", "answers"), Variant("int2-g128", "descent", "answers"), Variant("int3-g128"),
    Variant("int3-g128", "gptq"), Variant("int3-g128", "gptq", "block"), Variant("int3-g128", "gptq", "answers"),
    Variant("int3-g128", "awq"), Variant("int4-g128"), Variant("int4-g128", "awq"),
    Variant("int4-g128", "gptq"),
    Variant("int4-g128", "gptq", "answers"),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Figures of one bundle on the evaluation images."""

    variant: str
    seed: int
    perplexity: float
    cider: float
    weight_mb: float


def weight_mb(bundle: Path) -> float:
    """Of both graphs."""
    return round(sum((bundle / name).stat().st_size for name in ("vision.tflite", "text.tflite")) / 1e6, 3)


@dataclass(frozen=True)
class Subject:
    """A model to compress, calibration batches by seed, and what its bundles are evaluated on."""

    name: str
    folder: Path
    batches: Batches
    samples: list[Sample]
    kept: KeptFigures
    calibrations: dict[int, dict[str, object]] = field(default_factory=dict, repr=False)  # known ones, by seed

    @cached_property
    def identity(self) -> dict[str, object]:
        """What every figure of this subject is measured from."""
        images = {"images": len(self.samples), "samples": samples_digest(self.samples)}
        return {"model": model_digest(self.folder), **images}

    def calibrated_identity(self, seed: int) -> dict[str, object]:
        """The same for bundles that were calibrated."""
        if seed not in self.calibrations:
            batches = self.batches(seed)
            pairs = sum(len(batch["input_ids"]) for batch in batches)
            self.calibrations[seed] = {"seed": seed, "pairs": pairs, "calibration": batches_digest(batches)}
        return self.identity | self.calibrations[seed]

    def measure(self, variant: Variant | None, seed: int, console: Console) -> Measured | None:
        """``variant`` None: the float model. None where the figures are not known and nothing may be measured."""
        label = variant.name if variant else "float"
        calibrates = variant is not None and variant.solver != "rtn"
        identity = self.calibrated_identity(seed) if calibrates else {**self.identity, "seed": seed}
        figures = self.kept.of(
            f"{label}-{seed}", {"variant": label, **identity}, lambda: asdict(self.evaluated(variant, seed, console))
        )
        return None if figures is None else Measured(**figures)

    def evaluated(self, variant: Variant | None, seed: int, console: Console) -> Measured:
        label = variant.name if variant else "float"
        with TemporaryDirectory(prefix="edge_vlm_bench_") as folder:
            bundle = self.write(variant, seed, Path(folder) / "bundle")
            result = evaluate_tflite(bundle, self.samples, all_references=False)
            measured = Measured(label, seed, result.token_perplexity, result.metrics["cider"], weight_mb(bundle))
        console.print(f"{self.name}: {label}, seed {seed}: perplexity {measured.perplexity:.3f}, "
                      f"CIDEr {measured.cider:.3f}", highlight=False)  # fmt: skip
        return measured

    def write(self, variant: Variant | None, seed: int, out: Path) -> Path:
        if variant is None:
            source = Source.read(self.folder, "original")
            weights, rows = source.initial()
        else:
            source = Source.read(self.folder, "mixed", PLANS[variant.blocks](self.folder, variant.method))
            if variant.solver == "rtn":
                weights, rows = source.initial()
            else:
                weights, rows = calibrated(source, self.batches(seed), variant.solver, variant.saliency)
        return write_bundle(source, weights, out, self.name, report_of(source, rows, None, None))


def measure_all(subject: Subject, seeds: int, console: Console) -> dict[str, list[Measured]]:
    """By variant, one entry per seed; what needs no calibration is measured once. Where only
    known figures are wanted, entries may be missing, whole variants too."""
    found = {"float": [subject.measure(None, 0, console)]}
    for variant in (*ABLATION, *INTEGERS):
        tries = range(1 if variant.solver == "rtn" else seeds)
        found[variant.name] = [subject.measure(variant, seed, console) for seed in tries]
    return {name: kept for name, tries in found.items() if (kept := [t for t in tries if t is not None])}
