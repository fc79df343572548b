# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of a bundle, measured in a process of its own: nothing else has touched its memory.

``python -m offline_compress.evaluate.footprint BUNDLE FRAMES.npz`` prints one line of JSON. Imports no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_ops.errors import EdgeVlmError
from edge_vlm.meters.memory import peak_rss_mb, rss_mb

if TYPE_CHECKING:  # the runtime is part of what is measured
    from edge_vlm.runtime.vision_encoder import VisionEncoder

WARM_UP_FRAMES = 2
TIMEOUT_S = 900


class EvaluationError(EdgeVlmError):
    """A bundle cannot be evaluated; names it."""


@dataclass(frozen=True)
class Footprint:
    """``model_mb`` is what loading and running the bundle added to the resident memory; ``resident_mb`` and
    ``peak_mb`` are of the whole process. Times are medians over frames; ``tokens_per_second`` counts decoded
    tokens with prompt and image in the KV cache (median over frames)."""

    model_mb: float
    resident_mb: float
    peak_mb: float
    encode_ms: float
    prefill_ms: float
    tokens_per_second: float | None
    prompt_tokens: int
    frames: int


def measure_footprint(bundle: Path | str, images: list[np.ndarray]) -> Footprint:
    """Run ``images`` (uint8 RGB) through the bundle in a fresh process. Raises EvaluationError with its message."""
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.npz"
        np.savez(frames, *images)
        command = [sys.executable, "-m", "offline_compress.evaluate.footprint", str(bundle), str(frames)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
        except subprocess.TimeoutExpired as error:
            raise EvaluationError(f"{bundle}: no result within {TIMEOUT_S} s", "measure fewer frames") from error
    if done.returncode:
        raise EvaluationError(f"{bundle}: {done.stderr.strip() or 'the measurement crashed'}", "run edge-vlm doctor")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(bundle_path: Path, images: Sequence[np.ndarray]) -> Footprint:
    """The measurement itself, in this process. images uint8 (height, width, 3), of any sizes."""
    from edge_vlm.runtime.bundle import Bundle
    from edge_vlm.runtime.text_decoder import TextDecoder
    from edge_vlm.runtime.vision_encoder import VisionEncoder

    before = rss_mb()
    bundle = Bundle.load(bundle_path)
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    rows, rates = [], []
    for index in range(WARM_UP_FRAMES + len(images)):
        features, encode_ms = encode_image(encoder, images[index % len(images)])
        decoder.reset()  # every caption from nothing, whatever came before it
        made = decoder.generate(features)
        rows.append((encode_ms, made.prefill_ms))
        if made.token_ids and index >= WARM_UP_FRAMES:
            rates.append(1e3 * len(made.token_ids) / made.decode_ms)
        prompt_tokens = made.prompt_tokens
    encode_ms, prefill_ms = (float(value) for value in np.median(rows[WARM_UP_FRAMES:], axis=0))
    return Footprint(
        model_mb=round(rss_mb() - before, 2),
        resident_mb=round(rss_mb(), 2),
        peak_mb=round(peak_rss_mb(), 2),
        encode_ms=round(encode_ms, 3),
        prefill_ms=round(prefill_ms, 3),
        tokens_per_second=round(float(np.median(rates)), 2) if rates else None,
        prompt_tokens=prompt_tokens,
        frames=len(images),
    )


def encode_image(encoder: VisionEncoder, image_rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """Features of a whole image, computed anew, and the milliseconds of preprocessing and encoding."""
    start = time.perf_counter()
    encoder.reset()
    features = encoder.encode(encoder.preprocess(image_rgb), np.arange(encoder.info.vision.tokens, dtype=np.int32))
    return features, 1e3 * (time.perf_counter() - start)


def main() -> int:
    try:
        with np.load(sys.argv[2]) as frames:
            footprint = measure_here(Path(sys.argv[1]), list(frames.values()))
    except EdgeVlmError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(footprint)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
