# SPDX-License-Identifier: Apache-2.0
"""The operator library, the model bundle, and one caption of a grey picture through both."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vlm.doctor.check import OK, WARN, Check
from edge_vlm.errors import OperatorError

BUILTIN_REMEDY = "ai-edge-litert 2.3 or later has matrices of its own, which take over where the operators cannot"


def operators_checks() -> list[Check]:
    """Find (or build), load and self-test the operator library; names what computes without it."""
    from custom_ops.builtin_linear import why_not_builtin
    from custom_ops.library import load_operators
    from edge_vlm.runtime.interpreter import BUILTIN_NAME

    try:
        info = load_operators().info
    except OperatorError as error:
        without = why_not_builtin()
        if not without:
            return [Check("operators", WARN, f"{BUILTIN_NAME} will compute, slower: {error.what}", error.remedy)]
        detail = f"NumPy will compute, many times slower: {error.what}; {without}"
        return [Check("operators", WARN, detail, f"{error.remedy}; {BUILTIN_REMEDY}")]
    available = ", ".join(info.available_isas)
    detail = f"{info.path}, self-test passed in {info.runtime}; {info.isa} of {available}"
    return [Check("operators", OK, detail)]


def bundle_checks(path: Path) -> list[Check]:
    """Load the bundle with its checksums. Raises BundleError."""
    from edge_vlm.runtime.bundle import Bundle

    bundle = Bundle.load(path)
    info = bundle.info
    megabytes = sum(file.bytes for file in info.files.values()) / 1e6
    detail = (
        f"{info.name} ({info.variant}) at {bundle.path}: {len(info.files)} files, {megabytes:.1f} MB, checksums right"
    )
    return [Check("bundle", OK, detail)]


def caption_checks(path: Path) -> list[Check]:
    """A grey picture from pixels to words, so that every part has worked together once. Raises any of our errors."""
    from edge_vlm.observation import Frame, Observation
    from edge_vlm.pipeline import CaptionPipeline
    from edge_vlm.runtime.bundle import Bundle
    from edge_vlm.runtime.interpreter import engine_name

    pipeline = CaptionPipeline(Bundle.load(path))
    try:
        report = pipeline.step(Observation(Frame(1, np.full((48, 64, 3), 128, np.uint8))))
    finally:
        pipeline.close()
    engine = engine_name(1)
    detail = f"a picture captioned in {report.total_ms:.0f} ms with {engine}"
    if engine.startswith("NumPy"):
        return [Check("caption", WARN, detail, "the lines on litert and operators say what the fast engine lacks")]
    return [Check("caption", OK, detail)]
