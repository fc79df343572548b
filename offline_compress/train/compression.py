# SPDX-License-Identifier: Apache-2.0
"""The whole way from a Hugging Face folder to a bundle: plan, initial codes, QAT, export, report."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edge_vlm.files import make_folder
from offline_compress.export.bundle_writer import ExportOptions, export_bundle
from offline_compress.export.checkpoint import Checkpoint
from offline_compress.export.module_names import linear_names
from offline_compress.export.weights import ModelWeights
from offline_compress.models.chat_prompt import folder_prompt
from offline_compress.models.loading import read_image_settings
from offline_compress.quantize.block_work import require_space
from offline_compress.quantize.blockwise import HALVES
from offline_compress.quantize.cost import Cost, peak_bytes
from offline_compress.quantize.plan import VARIANTS, Plan, PlannedMatrix, default_plan
from offline_compress.quantize.plan_check import check_operators
from offline_compress.quantize.replace import quantise_model, to_model_weights
from offline_compress.quantize.report import MatrixReport, quantise_weights, report_json, with_final_errors
from offline_compress.train.checkpoint import digest_of, load_checkpoint, save_checkpoint
from offline_compress.train.processes import Processes
from offline_compress.train.qat import BatchSource, QatConfig, QatProgress, QatTrainer
from offline_compress.train.training_curve import TrainingCurve

CHECKPOINT, CURVE = "qat.pt", "curve.jsonl"
CURVE_EVERY = 10  # steps


@dataclass(frozen=True)
class Source:
    """A Hugging Face folder that was read once, and its plan resolved."""

    folder: Path
    variant: str
    weights: ModelWeights
    plan: Plan
    table: tuple[PlannedMatrix, ...]

    @staticmethod
    def read(folder: Path, variant: str, plan: Plan | None = None) -> Source:
        """Raises CheckpointError or QuantizeError, naming the file, matrix or rule."""
        weights = ModelWeights.from_hf_folder(folder)
        plan = plan or default_plan(weights.config, VARIANTS[variant], weights.tied)
        return Source(Path(folder), variant, weights, plan, resolved(plan, weights))

    def with_plan(self, plan: Plan) -> Source:
        """The same model under another plan. Raises QuantizeError for a plan that does not fit."""
        return replace(self, plan=plan, table=resolved(plan, self.weights))

    @property
    def solvable(self) -> list[PlannedMatrix]:
        """Matrices of the blocks below 8 bits, which calibration improves on; none for a generous plan."""
        return [line for line in self.table if line.method.bits < 8 and line.name.startswith(HALVES)]

    def initial(self) -> tuple[ModelWeights, list[MatrixReport]]:
        """Rounded without training, with the report of every matrix."""
        quantised, rows = quantise_weights(self.weights, self.table)
        return self.weights.with_linears(quantised), rows


def resolved(plan: Plan, weights: ModelWeights) -> tuple[PlannedMatrix, ...]:
    table = plan.resolve(linear_names(weights.config, weights.tied))
    check_operators(table, weights.config, weights.tied)
    return table


def load_float_model(folder: Path) -> torch.nn.Module:
    """The Hugging Face model in float32, its attention as plain matrix products."""
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    from offline_compress.train.attention import use_plain_attention

    logging.disable_progress_bar()  # ours tells more
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    use_plain_attention(model)
    return model


def train_quantised(
    source: Source,
    batches: BatchSource,
    config: QatConfig,
    work: Path,
    resume: bool,
    report: Callable[[QatProgress], None],
    watch: Callable[[torch.nn.Module], None] | None = None,
    processes: Processes | None = None,
    announce: Callable[[Cost], None] = lambda cost: None,
    solved: ModelWeights | None = None,
) -> tuple[ModelWeights, list[MatrixReport], list[dict]]:
    """QAT with checkpoints in ``work``: the trained weights, the report of every matrix, the loss curve.

    It starts from rounded codes, or from those of ``solved``.
    ``watch`` is shown the quantised model after every checkpoint. Of several ``processes`` one reports and saves; all
    end with the same weights. ``announce`` is told the cost, by a step that is not taken.

    Raises InputError for a checkpoint of another run, QuantizeError where training diverges,
    OutputError where the disk is too small for the checkpoints.
    """
    teacher = load_float_model(source.folder)
    student = copy.deepcopy(teacher)
    rows = quantise_model(student, source.table, None if solved is None else solved.linears)
    processes = processes or Processes()
    trainer = QatTrainer(student, teacher, batches, config, processes, made_of(source, batches, solved))
    make_folder(work)
    checkpoint, curve = work / CHECKPOINT, TrainingCurve(work / CURVE, CURVE_EVERY)
    if resume and checkpoint.is_file():
        trainer.restore(load_checkpoint(checkpoint), checkpoint)
    if processes.leads:
        curve.cut(trainer.step)
        cost = training_cost(trainer)
        kept = checkpoint.stat().st_size if checkpoint.is_file() else 0
        require_space(work, cost.disk_bytes - kept, "checkpoints", "compress without training: --steps 0")
        announce(cost)

    def both(progress: QatProgress) -> None:
        if processes.leads:
            curve.add(progress.step, {"rate": progress.rate, **progress.losses})
            report(progress)

    def save(done: QatTrainer) -> None:
        if not processes.leads:
            return
        save_checkpoint(done.state(), checkpoint)
        if watch is not None and done.due:
            watch(student.eval())
            student.train()

    trainer.run(both, save)
    student.cpu()
    weights = to_model_weights(student, source.weights.config)
    return weights, with_final_errors(rows, source.weights, weights.linears), curve.rows


def training_cost(trainer: QatTrainer) -> Cost:
    """Of the steps that are left. Memory: what a step has taken, and the optimiser's two moments; disk: a checkpoint of
    weights and moments, and the one before it until that is replaced."""
    left, device = trainer.config.steps - trainer.step, trainer.processes.device
    weight_bytes = sum(p.numel() * p.element_size() for p in trainer.student.parameters())
    seconds = left * trainer.rehearse() if left else 0.0
    taken = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()
    return Cost(seconds, taken + 2 * weight_bytes, 2 * 3 * weight_bytes)


def made_of(source: Source, batches: BatchSource, solved: ModelWeights | None = None) -> dict[str, object]:
    """What a checkpoint is of."""
    plan = {line.name: line.method.name for line in source.table}
    return {
        "model": Checkpoint.open(source.folder).stamp(),
        "plan": plan,
        "data set": digest_of(batches.batch(0)),
        "start": "rounded" if solved is None else codes_digest(solved),
    }


def codes_digest(weights: ModelWeights) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights.linears):
        digest.update(np.ascontiguousarray(weights.linears[name].codes).tobytes())
    return digest.hexdigest()


def report_of(source: Source, rows: Sequence[MatrixReport], training: dict | None, heldout: dict | None) -> dict:
    """The object of report.json."""
    total, float_total = sum(row.bytes for row in rows), sum(row.float_bytes for row in rows)
    return {
        "variant": source.variant,
        "source": source.folder.resolve().name,
        "plan": source.plan.to_json(),
        "matrix_bytes": total,
        "matrix_float_bytes": float_total,
        "layers": report_json(rows),
        "training": training,
        "heldout": heldout,
    }


def training_report(config: QatConfig, curve: list[dict]) -> dict:
    return {"method": "qat + distillation", "options": asdict(config), "curve": curve}


def write_bundle(
    source: Source, weights: ModelWeights, out: Path, name: str, report: dict, dense_ternary: bool = False
) -> Path:
    """Export; the folder ``out`` is replaced whole. Raises ExportError or OutputError."""
    image = read_image_settings(source.folder, weights.config)
    options = ExportOptions(
        source.variant, name, image_mean=image.mean, image_std=image.std, report=report, dense_ternary=dense_ternary
    )
    return export_bundle(weights, source.folder / "tokenizer.json", out, options, folder_prompt(source.folder))
