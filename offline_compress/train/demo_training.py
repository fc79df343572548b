# SPDX-License-Identifier: Apache-2.0
"""The demo model from nothing to a Hugging Face folder: tokenizer, resumable training, previews, final figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_vlm.files import make_folder, write_json
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.caption_parts import part_accuracy
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.export.prompt import Prompt
from offline_compress.models.dataset import SceneSet
from offline_compress.models.demo_model import IMAGE_TOKENS, build_demo_model, check_model_replaceable, save_folder
from offline_compress.models.tokenizer import train_tokenizer
from offline_compress.train.attention import use_plain_attention
from offline_compress.train.caption_batches import CaptionBatches
from offline_compress.train.checkpoint import load_checkpoint, save_checkpoint
from offline_compress.train.curve_picture import draw_curve
from offline_compress.train.float_training import FloatTrainer, FloatTrainingConfig, TrainingProgress
from offline_compress.train.training_curve import TrainingCurve

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

    def __post_init__(self) -> None:
        self.tokenizer = train_tokenizer(text for texts in self.scenes.captions for text in texts)
        self.prompt = Prompt.smolvlm(IMAGE_TOKENS)
        model = build_demo_model(self.seed)
        use_plain_attention(model)
        batches = CaptionBatches(self.scenes, self.tokenizer, self.prompt, self.batch, self.seed)
        self.trainer = FloatTrainer(model, batches, self.config)
        self.curve = TrainingCurve(self.out / CURVE, CURVE_EVERY)

    def run(self, resume: bool, report: Callable[[TrainingProgress], None]) -> dict:
        """Train, then write the folder and its metrics.json; returns the metrics.

        Raises InputError for a checkpoint of another run or a loss that is not finite, OutputError for a full disk.
        """
        check_model_replaceable(self.out / MODEL)
        make_folder(self.out)
        checkpoint = self.out / CHECKPOINT
        if resume and checkpoint.is_file():
            self.trainer.restore(load_checkpoint(checkpoint), checkpoint)
            self.say(f"going on after step {self.trainer.step} of {checkpoint}")
        self.curve.cut(self.trainer.step)

        def both(progress: TrainingProgress) -> None:
            speed = {"samples_per_s": progress.samples_per_s}
            self.curve.add(progress.step, speed | progress.losses | progress.accuracy)
            report(progress)

        self.trainer.run(both, self.checkpoint)
        metrics = self.evaluate(len(self.heldout), self.trainer.model, meteor=True)
        metrics |= {"seed": self.seed, "scenes": len(self.scenes), "batch": self.batch, **self.config.identity()}
        save_folder(self.trainer.model, self.tokenizer, self.out / MODEL)
        write_json(self.out / METRICS, metrics)
        write_json(self.out / MODEL / METRICS, metrics)
        draw_curve(self.curve.rows, self.out / PICTURE)
        return metrics

    def planned_steps(self) -> int | None:
        """Steps of the run that the checkpoint belongs to; None without a checkpoint."""
        checkpoint = self.out / CHECKPOINT
        return load_checkpoint(checkpoint)["config"]["steps"] if checkpoint.is_file() else None

    def checkpoint(self, trainer: FloatTrainer) -> None:
        """State to go on from, a preview folder, and the metrics of a few held-out scenes."""
        save_checkpoint(trainer.state(), self.out / CHECKPOINT)
        save_folder(trainer.model, self.tokenizer, self.out / PREVIEW)
        metrics = self.evaluate(QUICK_SCENES, trainer.working.module, meteor=False)
        trainer.working.module.train()
        self.curve.append({"step": trainer.step, **{f"heldout_{name}": value for name, value in metrics.items()
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
