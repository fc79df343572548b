# SPDX-License-Identifier: Apache-2.0
"""Several pipelines over the same frames, in turn: what each computed, said, and took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_vlm.observation import Observation
from edge_vlm.pipeline import CaptionPipeline, PipelineConfig
from edge_vlm.runtime import Bundle, TextDecoder, VisionEncoder
from edge_vlm.step_report import StepReport


@dataclass(frozen=True)
class Run:
    """One pipeline's reports, and its image features ``(image_tokens, dim)`` after each frame, where they were kept."""

    reports: tuple[StepReport, ...]
    features: tuple[np.ndarray, ...]

    @property
    def captions(self) -> list[str]:
        return [report.caption.text for report in self.reports]

    @property
    def branches(self) -> list[str]:
        return [report.branch for report in self.reports]

    @property
    def tokens(self) -> np.ndarray:
        """Tokens computed, of all, ``(frames,)``."""
        return np.array([report.tokens_computed / report.tokens_total for report in self.reports])

    @property
    def macs(self) -> np.ndarray:
        return np.array([report.encoder_macs for report in self.reports], float)

    @property
    def ms(self) -> np.ndarray:
        return np.array([report.total_ms for report in self.reports])

    def stage_ms(self, *stages: str) -> np.ndarray:
        """Milliseconds in these stages together, ``(frames,)``."""
        return np.array([sum(report.stage_ms.get(stage, 0.0) for stage in stages) for report in self.reports])

    def cosine_to(self, dense: Run) -> np.ndarray:
        """To another run's features, averaged over the image's tokens, ``(frames,)``."""
        return np.array([mean_cosine(own, other) for own, other in zip(self.features, dense.features, strict=True)])


def run_side_by_side(
    bundle: Bundle,
    observations: Iterable[Observation],
    configs: Mapping[str, PipelineConfig],
    keep_features: bool = True,
) -> dict[str, Run]:
    """Each frame through every pipeline before the next one comes, so that all meet the same machine.

    Raises what reading the observations or the model raises.
    """
    pipelines, encoders = {}, {}
    for name, config in configs.items():
        encoders[name] = VisionEncoder(bundle, threads=config.threads)
        decoder = TextDecoder(bundle, threads=config.threads)
        pipelines[name] = CaptionPipeline(bundle, config, encoder=encoders[name], decoder=decoder)
    reports: dict[str, list[StepReport]] = {name: [] for name in configs}
    features: dict[str, list[np.ndarray]] = {name: [] for name in configs}
    try:
        for observation in observations:
            for name, pipeline in pipelines.items():
                reports[name].append(pipeline.step(observation))
                if keep_features:
                    features[name].append(encoders[name].image_features.copy())
    finally:
        for pipeline in pipelines.values():
            pipeline.close()
    return {name: Run(tuple(reports[name]), tuple(features[name])) for name in configs}


def joined(runs: Sequence[Run]) -> Run:
    """One run after the other."""
    return Run(
        tuple(report for run in runs for report in run.reports),
        tuple(features for run in runs for features in run.features),
    )


def mean_cosine(features: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of each token ``(tokens, dim)`` to its reference, averaged; a token of zeros counts 0."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((features * reference).sum(axis=1) / np.maximum(norms, 1e-12)).mean())


def agreement(captions: Sequence[str], others: Sequence[str]) -> float:
    """Part of the frames with equal captions."""
    return float(np.mean([one == other for one, other in zip(captions, others, strict=True)]))
