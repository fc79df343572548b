# SPDX-License-Identifier: Apache-2.0
"""The demo model from nothing to a Hugging Face folder: tokenizer, resumable training, previews, final figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_vlm.errors import InputError
from edge_vlm.files import make_folder, reporting, write_json, write_text
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.caption_parts import part_accuracy
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.export.prompt import Prompt
from offline_compress.models.dataset import SceneSet
from offline_compress.models.demo_model import IMAGE_TOKENS, build_demo_model, save_folder
from offline_compress.models.tokenizer import train_tokenizer
from offline_compress.train.attention import use_plain_attention
from offline_compress.train.caption_batches import CaptionBatches
from offline_compress.train.compression import load_checkpoint, save_checkpoint
from offline_compress.train.curve_picture import draw_curve
from offline_compress.train.float_training import FloatTrainer, FloatTrainingConfig, TrainingProgress

CHECKPOINT, CURVE, PICTURE, METRICS = "checkpoint.pt", "curve.jsonl", "curve.png", "metrics.json"
MODEL, PREVIEW = "model", "preview"  # folders
QUICK_SCENES = 100
CURVE_EVERY = 25


@dataclass
class DemoTraining:
    """One run in the folder `out`. Same scenes, seed and options: same data in the same order."""

    out: Path
    scenes: SceneSet
    heldout: SceneSet
    config: FloatTrainingConfig
    batch: int = 24
    seed: int = 0
    say: Callable[[str], None] = print
    rows: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokenizer = train_tokenizer(text for texts in self.scenes.captions for text in texts)
        self.prompt = Prompt.smolvlm(IMAGE_TOKENS)
        model = build_demo_model(self.seed)
        use_plain_attention(model)
        batches = CaptionBatches(self.scenes, self.tokenizer, self.prompt, self.batch, self.seed)
        self.trainer = FloatTrainer(model, batches, self.config)
        self.window: list[TrainingProgress] = []

    def run(self, resume: bool, report: Callable[[TrainingProgress], None]) -> dict:
        """Train, then write the folder and its metrics.json; returns the metrics.

        Raises InputError for a checkpoint of another run or a loss that is not finite, OutputError for a full disk.
        """
        make_folder(self.out)
        checkpoint = self.out / CHECKPOINT
        if resume and checkpoint.is_file():
            self.trainer.restore(load_checkpoint(checkpoint), checkpoint)
            self.say(f"going on after step {self.trainer.step} of {checkpoint}")
        self.rows = read_curve(self.out / CURVE, self.trainer.step)

        def both(progress: TrainingProgress) -> None:
            self.note(progress)
            report(progress)

        self.trainer.run(both, self.checkpoint)
        metrics = self.evaluate(len(self.heldout), self.trainer.model, meteor=True)
        metrics |= {"seed": self.seed, "scenes": len(self.scenes), "batch": self.batch, **self.config.identity()}
        save_folder(self.trainer.model, self.tokenizer, self.out / MODEL)
        write_json(self.out / METRICS, metrics)
        write_json(self.out / MODEL / METRICS, metrics)
        draw_curve(self.rows, self.out / PICTURE)
        return metrics

    def planned_steps(self) -> int | None:
        """Steps of the run that the checkpoint belongs to; None without a checkpoint."""
        checkpoint = self.out / CHECKPOINT
        return load_checkpoint(checkpoint)["config"]["steps"] if checkpoint.is_file() else None

    def note(self, progress: TrainingProgress) -> None:
        """Means of the last steps, one row of the curve."""
        self.window.append(progress)
        if progress.step % CURVE_EVERY == 0:
            row = {"step": progress.step, "samples_per_s": round(mean([p.samples_per_s for p in self.window]), 1)}
            row |= {name: round(mean([p.losses[name] for p in self.window]), 4) for name in progress.losses}
            for name in progress.accuracy:  # a batch may lack a channel
                row[name] = round(mean([p.accuracy[name] for p in self.window if name in p.accuracy]), 3)
            self.window = []
            self.append(row)

    def append(self, row: dict) -> None:
        self.rows.append(row)
        with reporting(self.out / CURVE), open(self.out / CURVE, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def checkpoint(self, trainer: FloatTrainer) -> None:
        """State to go on from, a preview folder, and the metrics of a few held-out scenes."""
        save_checkpoint(trainer.state(), self.out / CHECKPOINT)
        save_folder(trainer.model, self.tokenizer, self.out / PREVIEW)
        metrics = self.evaluate(QUICK_SCENES, trainer.worker, meteor=False)
        trainer.worker.train()
        self.append({"step": trainer.step, **{f"heldout_{name}": value for name, value in metrics.items()
                                              if isinstance(value, float)}})  # fmt: skip
        self.say(f"step {trainer.step}: held-out CIDEr {metrics['cider']:.3f}, perplexity {metrics['perplexity']:.4f}, "
                 f"all right {metrics['parts']['all']:.0%}; \"{metrics['examples'][0]['caption']}\"")  # fmt: skip

    def evaluate(self, count: int, model, meteor: bool) -> dict:
        """Caption metrics, perplexity and accuracy of parts on the first `count` held-out scenes."""
        count = min(count, len(self.heldout))
        images = [self.heldout.image(i) for i in range(count)]
        references = self.heldout.captions[:count]
        captions = greedy_captions(model, self.tokenizer, self.prompt, images)
        first = [texts[0] for texts in references]
        scores = answer_log_probabilities(model, self.tokenizer, self.prompt, images, first)
        return {
            "heldout_scenes": count,
            **caption_metrics(captions, references, meteor=meteor),
            "perplexity": from_log_probabilities(scores),
            "parts": part_accuracy(captions, references),
            "examples": [
                {"caption": said, "reference": true} for said, true in zip(captions[:20], first[:20], strict=True)
            ],
        }


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def read_curve(path: Path, step: int) -> list[dict]:
    """The rows up to `step`; what lies behind it is removed from the file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        rows = [row for row in (json.loads(line) for line in lines if line.endswith("}")) if row["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the curve of a training ({error})", "remove it") from error
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows
