# SPDX-License-Identifier: Apache-2.0
"""The photo captioner from photographs to a Hugging Face folder: resumable training with previews on dev photos."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from edge_vlm.errors import InputError, SourceError
from edge_vlm.files import make_folder
from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.captioning import answer_log_probabilities, greedy_captions
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.export.prompt import Prompt
from offline_compress.models.demo_model import check_model_replaceable, save_folder
from offline_compress.models.mobilenet_features import FEATURES, MAPS, MobileNetFeatures
from offline_compress.models.packed_captions import encode
from offline_compress.models.photo_model import (
    IMAGE_SIZE,
    IMAGE_TOKENS,
    PATCH_SIZE,
    VOCABULARY,
    build_photo_model,
    photo_config,
    whiten_patches,
)
from offline_compress.models.pixels import normalised
from offline_compress.models.tokenizer import train_tokenizer
from offline_compress.pairs.captioned_images import CaptionedImages, plain, skipped_text
from offline_compress.train.attention import use_plain_attention
from offline_compress.train.checkpoint import load_checkpoint, save_checkpoint
from offline_compress.train.curve_picture import draw_curve
from offline_compress.train.float_training import TrainingProgress
from offline_compress.train.photo_batches import GlimpseBatches, PhotoBatches, TextBatches, view_tensors
from offline_compress.train.photo_trainer import PhotoTrainer, PhotoTrainingConfig, StagedBatches
from offline_compress.train.photo_views import PhotoViews, squared
from offline_compress.train.teacher_bridge import TeacherBridge, TeacherEyes, distance
from offline_compress.train.training_curve import TrainingCurve

CHECKPOINT, CURVE, PICTURE, MODEL = "checkpoint.pt", "curve.jsonl", "curve.png", "model"
QUICK_PHOTOS = 100
CURVE_EVERY = 10
PREVIEW_EVERY = 250
SAMPLES = 300  # photos whose patches and features are looked at before the training begins
GLIMPSES_IN_STEP = 2  # times as many as photos with captions: nothing is read with them
PANELS = (
    ("caption loss", ("answer",)),
    ("teacher", ("hidden", *MAPS, "dev_hidden")),
    ("dev captions", ("dev_cider", "dev_bleu_4", "dev_rouge_l")),
)


@dataclass(frozen=True)
class PhotoData:
    """Training photos with their views, dev photos, and captions without photos to learn English from."""

    train: CaptionedImages
    dev: CaptionedImages
    teacher: MobileNetFeatures
    texts: tuple[str, ...]


@dataclass
class PhotoTraining:
    """One run in the folder `out`. Same data, seed and options: same batches in the same order. Its stages begin with
    the weights that an earlier run in the folder `start` ended in, where that is given."""

    out: Path
    data: PhotoData
    config: PhotoTrainingConfig
    batch: int = 32
    seed: int = 0
    say: Callable[[str], None] = print
    start: Path | None = None

    def __post_init__(self) -> None:
        cv2.setNumThreads(1)
        good, skipped = self.data.train.decodable()
        if skipped:
            self.say(skipped_text(skipped))
        photos = self.data.train.chosen(good)
        captions = [plain(texts) for texts in photos.captions]
        told = [text for texts in captions for text in texts]
        self.tokenizer = train_tokenizer([*told, *self.data.texts], VOCABULARY)
        self.prompt = Prompt.smolvlm(IMAGE_TOKENS)
        model = build_photo_model(photo_config(len(self.tokenizer)), self.seed)
        use_plain_attention(model)
        views = PhotoViews(photos, self.data.teacher, IMAGE_SIZE)
        seen = view_tensors([views.whole(i) for i in range(min(SAMPLES, len(views)))])
        whiten_patches(model.model.vision_model.embeddings.patch_embedding, seen["pixel_values"][:, 0])
        batches = StagedBatches(
            self.config.stages,
            TextBatches(self.data.texts or told, self.tokenizer, self.prompt, self.batch, self.seed),
            PhotoBatches(views, captions, self.tokenizer, self.prompt, self.batch, self.seed),
            GlimpseBatches(views, GLIMPSES_IN_STEP * self.batch, self.seed),
        )
        vision, text = model.config.vision_config, model.config.text_config
        maps = {name: seen[name].numpy() for name in MAPS}
        bridge = TeacherBridge(vision.hidden_size, IMAGE_SIZE // PATCH_SIZE, text.hidden_size, maps)
        self.trainer = PhotoTrainer(model, batches, bridge, self.config)
        if self.start is not None:
            require_same_words(self.start / MODEL / "tokenizer.json", self.tokenizer)
            self.trainer.begin_from(load_checkpoint(self.start / CHECKPOINT), self.start / CHECKPOINT)
        self.curve = TrainingCurve(self.out / CURVE, CURVE_EVERY)

    def run(self, resume: bool, report: Callable[[TrainingProgress], None]) -> Path:
        """Train, then write the folder of the running mean; returns it.

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
            self.curve.add(progress.step, {"samples_per_s": progress.samples_per_s} | progress.losses)
            report(progress)

        self.trainer.run(both, self.checkpoint)
        return self.out / MODEL

    def checkpoint(self, trainer: PhotoTrainer) -> None:
        """State to go on from, the model so far, and how it captions some dev photos."""
        save_checkpoint(trainer.state(), self.out / CHECKPOINT)
        save_folder(trainer.kept, self.tokenizer, self.out / MODEL)
        due = trainer.step % PREVIEW_EVERY < self.config.checkpoint_every or trainer.step == self.config.steps
        metrics = self.preview() if due and trainer.step > self.config.stages.texts else {}
        trainer.working.module.train()
        if metrics:
            self.curve.append({"step": trainer.step, **{f"dev_{name}": value for name, value in metrics.items()}})
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self.say(f"step {trainer.step}: dev photos: {shown}")
        draw_curve(self.curve.rows, self.out / PICTURE, PANELS)

    def preview(self) -> dict[str, float]:
        """Through the teacher's eyes as long as the encoder has not begun to learn."""
        dev = self.data.dev.chosen(self.data.dev.decodable(QUICK_PHOTOS)[0])
        images = squares(dev)
        references = [plain(texts) for texts in dev.captions]
        model, stages = self.trainer.kept, self.config.stages
        own = model.model.vision_model, model.model.connector
        if self.trainer.step <= stages.texts + stages.teacher:
            model.model.vision_model = TeacherEyes(self.data.teacher, self.trainer.heads)
            model.model.connector = torch.nn.Identity()
        try:
            said = greedy_captions(model, self.tokenizer, self.prompt, images, max_new_tokens=24)
            first = [texts[0] for texts in references]
            scores = answer_log_probabilities(model, self.tokenizer, self.prompt, images, first)
        finally:
            model.model.vision_model, model.model.connector = own
        metrics = caption_metrics(said, references, meteor=False)
        if self.trainer.step > stages.texts + stages.teacher:
            metrics["hidden"] = self.distance(images)
        self.say(f"says: {said[:3]}")
        return {
            name: round(metrics[name], 4) for name in ("cider", "bleu_4", "rouge_l", "hidden") if name in metrics
        } | {"token_perplexity": round(from_log_probabilities(scores), 3)}

    @torch.no_grad()
    def distance(self, images: list[np.ndarray]) -> float:
        """Of the kept encoder on whole images from what the adapter gives, as a share of its variance."""
        features = torch.from_numpy(np.stack([self.data.teacher(image)[FEATURES] for image in images]))
        given = encode(self.trainer.kept, normalised(np.stack(images).astype(np.float32) / 255)[:, 0])
        return distance(given, self.trainer.heads.adapted(features)).item()


def require_same_words(path: Path, tokenizer) -> None:
    """Raises SourceError where the tokenizer in ``path`` cannot be read, InputError where it has other tokens."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}", "give the folder of an earlier run") from error
    if known.get("model") != json.loads(tokenizer.backend_tokenizer.to_str())["model"]:
        raise InputError(f"{path}: made from other captions", "start with the --photos and --texts of that run")


def squares(photos: CaptionedImages, count: int | None = None, size: int = IMAGE_SIZE) -> list[np.ndarray]:
    """The first ``count`` photos as the model sees them, uint8 (size, size, 3)."""
    images = (photos.image(i) for i in range(len(photos) if count is None else min(count, len(photos))))
    return [squared(image, size) for image in images]


def read_texts(path: Path) -> tuple[str, ...]:
    """A caption a line, plain or .gz. Raises SourceError."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            captions = plain(file.read().splitlines())
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise SourceError(f"{path}: {error}", "give a text file with one caption a line") from error
    return tuple(caption for caption in captions if caption)
