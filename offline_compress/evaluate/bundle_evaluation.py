# SPDX-License-Identifier: Apache-2.0
"""What a bundle is worth, through its .tflite graphs as on board: captions, perplexity, bytes, memory, speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_vlm.runtime.bundle import Bundle
from edge_vlm.runtime.text_decoder import TextDecoder
from edge_vlm.runtime.vision_encoder import VisionEncoder
from offline_compress.evaluate.footprint import EvaluationError, Footprint, encode_image, measure_footprint
from offline_compress.evaluate.perplexity import from_log_probabilities
from offline_compress.evaluate.samples import Sample

FOOTPRINT_FRAMES = 20

Metrics = Callable[[Sequence[str], Sequence[Sequence[str]]], Mapping[str, float]]


@dataclass(frozen=True)
class BundleEvaluation:
    """``perplexity`` of the first reference of each image, see perplexity.py; ``metrics`` of the greedy captions."""

    path: str
    name: str
    variant: str
    bundle_bytes: int
    weight_bytes: int
    footprint: Footprint
    perplexity: float
    metrics: dict[str, float]
    samples: int
    captions: tuple[str, ...] = field(repr=False, default=())

    def to_json(self) -> dict:
        return {**asdict(self), "captions": list(self.captions)}


def evaluate_bundle(
    path: Path | str, samples: Sequence[Sample], metrics: Metrics, progress: Callable[[int], None] = lambda done: None
) -> BundleEvaluation:
    """Evaluate one bundle. Speed and memory come from a fresh process, before this one loads it.

    Raises BundleError or EvaluationError that names the bundle.
    """
    if not samples:
        raise EvaluationError(f"{path}: nothing to evaluate on", "give at least one image with captions")
    bundle = Bundle.load(path)
    footprint = measure_footprint(path, [sample.image_rgb for sample in samples[:FOOTPRINT_FRAMES]])
    captions, perplexity = caption_and_score(bundle, samples, progress)
    return BundleEvaluation(
        path=str(path),
        name=bundle.info.name,
        variant=bundle.info.variant,
        bundle_bytes=sum(file.stat().st_size for file in Path(path).iterdir() if file.is_file()),
        weight_bytes=bundle.info.weight_bytes,
        footprint=footprint,
        perplexity=round(perplexity, 5),
        metrics={
            key: round(float(value), 5)
            for key, value in metrics(captions, [sample.references for sample in samples]).items()
        },
        samples=len(samples),
        captions=tuple(captions),
    )


def caption_and_score(
    bundle: Bundle, samples: Iterable[Sample], progress: Callable[[int], None]
) -> tuple[list[str], float]:
    """Greedy captions, and the perplexity of the first references."""
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    captions, scores = [], []
    for index, sample in enumerate(samples):
        features, _ = encode_image(encoder, sample.image_rgb)
        captions.append(decoder.generate(features).text)
        scores.append(decoder.score(features, sample.references[0]))
        progress(index + 1)
    return captions, from_log_probabilities(scores)


def bundle_perplexity(path: Path | str, samples: Iterable[Sample]) -> float:
    """Of the first references, without captioning."""
    bundle = Bundle.load(path, verify=False)
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    return from_log_probabilities(
        decoder.score(encode_image(encoder, sample.image_rgb)[0], sample.references[0]) for sample in samples
    )
