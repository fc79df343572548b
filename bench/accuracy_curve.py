# SPDX-License-Identifier: Apache-2.0
"""Accuracy against tokens: the token gate over its thresholds, beside what spends as many tokens in other ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.fewer_tokens import FewerTokensEncoder
from bench.frame_skipping import shown_frames
from bench.heldout_clips import RenderedSequence
from bench.rendered_rows import DENSE, measure
from bench.rows import Row
from bench.side_by_side import agreement
from edge_vlm.pipeline import PipelineConfig
from edge_vlm.runtime import Bundle, TextDecoder
from edge_vlm.sttf import SttfConfig
from offline_compress.evaluate.heldout import caption_scores

THRESHOLDS = (3.0, 6.0, 12.0, 24.0, 48.0)
FEWER_TOKENS = (98, 49, 31, 16)
FRAME_STEP = 6  # of the clips' frames, every sixth is judged: merging in NumPy is slow
GATE, SKIPPING, MERGING, PATTERN = "token gate", "frame skipping", "merged patches (ToMe)", "even pattern"


@dataclass(frozen=True)
class Point:
    """``tokens``: computed per frame, of all. ``same``: captions as with full recomputation."""

    method: str
    setting: float
    tokens: float
    cider: float
    same: float


def accuracy_curve(bundle: Bundle, sequences: Sequence[RenderedSequence], report=lambda done: None) -> list[Point]:
    """All methods on the same frames. ``report`` is called with the number of settings done."""
    gate = SttfConfig.from_json(bundle.sttf)
    configs = {DENSE: PipelineConfig(variant="none")}
    for threshold in THRESHOLDS:
        changed = replace(gate, threshold_on=threshold, threshold_off=threshold * 2 / 3)
        configs[f"{threshold:g}"] = PipelineConfig(variant="sttf", sttf=changed)
    measured = measure(bundle, sequences, configs)
    dense, lengths = measured.of(DENSE).captions, [len(sequence) for sequence in sequences]
    judge = _Judge(measured.references, dense)
    points = [judge.point(GATE, 0.0, 1.0, dense)]
    for threshold in THRESHOLDS:
        run = measured.of(f"{threshold:g}")
        share = float(run.tokens.mean())
        points.append(judge.point(GATE, threshold, share, run.captions))
        shown = _shown(lengths, share)
        points.append(judge.point(SKIPPING, share, share, [dense[index] for index in shown]))
    points += fewer_token_points(bundle, sequences, judge, report)
    return points


def fewer_token_points(bundle: Bundle, sequences: Sequence[RenderedSequence], judge: _Judge, report) -> list[Point]:
    encoder, decoder = FewerTokensEncoder(bundle), TextDecoder(bundle, threads=1)
    images = [observation.frame.image for sequence in sequences for observation in sequence.observations]
    points = []
    for tokens in FEWER_TOKENS:
        for method, encode in ((MERGING, encoder.merged), (PATTERN, encoder.dropped)):
            captions = {index: decoder.generate(encode(images[index], tokens)).text for index in judge.judged}
            points.append(judge.point(method, tokens, tokens / bundle.vision.tokens, captions))
            report(len(points))
    return points


class _Judge:
    """Holds captions of the judged frames against the truth and against full recomputation."""

    def __init__(self, references: Sequence[Sequence[str]], dense: Sequence[str]) -> None:
        self.judged = range(0, len(dense), FRAME_STEP)
        self.references, self.dense = [references[i] for i in self.judged], [dense[i] for i in self.judged]

    def point(self, method: str, setting: float, tokens: float, captions) -> Point:
        """``captions`` by frame number."""
        said = [captions[index] for index in self.judged]
        cider = caption_scores(said, self.references)["cider"]
        return Point(method, setting, tokens, cider, agreement(said, self.dense))


def _shown(lengths: Sequence[int], share: float) -> np.ndarray:
    """Frame skipping in each clip anew."""
    starts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate([start + shown_frames(length, share) for start, length in zip(starts, lengths, strict=True)])


def curve_rows(points: Sequence[Point]) -> list[Row]:
    rows = []
    for point in points:
        where = f"{point.method}, {100 * point.tokens:.1f} % of the tokens"
        rows.append(Row(f"{where}: CIDEr", point.cider, "", None, "higher"))
        rows.append(Row(f"{where}: captions as with full recomputation", point.same, "", None, "higher"))
    return rows
