# SPDX-License-Identifier: Apache-2.0
"""Our runtime on a bundle: times of a caption, time to the first token, memory with a full context."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

from bench.peers.contender import serve
from custom_ops.library import load_operators
from edge_vlm.meters.memory import rss_mb
from edge_vlm.runtime import Bundle, TextDecoder, VisionEncoder
from edge_vlm.runtime.text_decoder import GREEDY

ACTIVE = 0.16  # share of the patches in a sparse encode


class Captioner:
    def __init__(self, path: Path, threads: int, tokens: int) -> None:
        load_operators(threads)
        self.own_mb, self.tokens, begin = rss_mb(), tokens, time.perf_counter()
        bundle = Bundle.load(path)
        self.encoder, self.decoder = VisionEncoder(bundle, threads), TextDecoder(bundle, threads)
        self.info, rng = bundle.info, np.random.default_rng(0)
        self.image = rng.integers(0, 256, (512, 512, 3)).astype(np.uint8)
        self.all = np.arange(self.info.vision.tokens, dtype=np.int32)
        self.some = np.sort(rng.choice(self.all, round(ACTIVE * len(self.all)), replace=False))
        self.decoder.generate(self.encode(), max_new_tokens=1)
        self.first_token_ms = 1e3 * (time.perf_counter() - begin)

    def encode(self) -> np.ndarray:
        return self.encoder.encode(self.encoder.preprocess(self.image), self.all)

    def run(self) -> dict:
        """One caption from an image, nothing remembered; then a sparse encode."""
        self.encoder.reset()
        self.decoder.reset()
        begin = time.perf_counter()
        features = self.encode()
        encoded = time.perf_counter()
        made = self.decoder.generate(features, max_new_tokens=self.tokens)
        done = time.perf_counter()
        patches = self.encoder.preprocess(self.image)[self.some]
        sparse = time.perf_counter()
        self.encoder.encode(patches, self.some)
        return {
            "encode_ms": 1e3 * (encoded - begin),
            "prefill_ms": made.prefill_ms,
            "token_ms": made.decode_ms / max(1, len(made.token_ids) - 1),
            "caption_ms": 1e3 * (done - begin),
            "sparse_ms": 1e3 * (time.perf_counter() - sparse),
        }

    def fill_context(self) -> None:
        """Decode to the last position of the context."""
        begin = len(self.decoder.tokenizer.prompt())
        for position in range(begin, self.info.text.context_length):
            self.decoder.choose("decode", np.array([1], np.int32), position, GREEDY)


def mapped_mb(suffix: str) -> float:
    """Resident megabytes of mapped files whose name ends so."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = line.endswith(suffix)
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=20)
    args = parser.parse_args()
    captioner = Captioner(args.bundle, args.threads, args.tokens)
    captioner.run()
    captioner.fill_context()
    ready = {
        "first_token_ms": captioner.first_token_ms,
        "memory_mb": rss_mb() - captioner.own_mb,
        "mapped_mb": mapped_mb(".tflite"),
        "prompt_tokens": len(captioner.decoder.tokenizer.prompt()),
    }
    serve(ready, captioner.run)


if __name__ == "__main__":
    main()
