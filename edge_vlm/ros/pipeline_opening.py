# SPDX-License-Identifier: Apache-2.0
"""The pipeline that the node's parameters describe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from custom_ops.library import find_library
from edge_vlm.default_bundle import default_bundle_path
from edge_vlm.meters import EnergyMeter
from edge_vlm.observation import Frame, Observation
from edge_vlm.pipeline import CaptionPipeline
from edge_vlm.pipeline_config import PipelineConfig
from edge_vlm.runtime.bundle import Bundle
from edge_vlm.runtime.interpreter import engine_name

# Parameters of a pipeline that can change while the node is configured: the pipeline is then made anew.
REOPENING = frozenset({"variant", "reuse", "route", "prompt", "caption_max_age_s"})


class PipelineOpener:
    """Loads the bundle and checks its checksums once; each call then makes a pipeline of the parameters as they are.
    ``engine`` says what it computes with; ``say`` and ``warn`` are the node's log.

    Raises:
        BundleError: the bundle is missing, damaged, or not one of ours.
    """

    def __init__(
        self, parameters, open_meter: Callable[[], EnergyMeter], say: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._parameters, self._open_meter = parameters, open_meter
        if find_library() is None:
            say("building the operators, once; python3 -m custom_ops.build does it beforehand")
        named = parameters["bundle"]
        self.engine = engine_name(parameters["threads"])
        if self.engine.startswith("NumPy"):
            warn(f"{self.engine}; the interpreter is {sys.executable}")
        self._bundle = Bundle.load(Path(named).expanduser() if named else default_bundle_path())

    def __call__(self) -> CaptionPipeline:
        return CaptionPipeline(self._bundle, pipeline_config(self._parameters), meter=self._open_meter())


def pipeline_config(parameters) -> PipelineConfig:
    return PipelineConfig(
        variant=parameters["variant"],
        reuse=parameters["reuse"],
        route=parameters["route"],
        question=parameters["prompt"] or None,
        caption_max_age_s=parameters["caption_max_age_s"],
        threads=parameters["threads"],
    )


def tested(pipeline):
    """The pipeline, after a grey picture has gone through it: raises what would go wrong at the first frame."""
    try:
        pipeline.step(Observation(Frame(1, np.full((48, 64, 3), 128, np.uint8))))
        pipeline.reset("self-test")
    except Exception:
        pipeline.close()
        raise
    return pipeline
