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
from edge_vlm.runtime import Bundle, DenseEncoder, TextDecoder, VisionEncoder
from edge_vlm.runtime.memory_return import return_freed_memory
from edge_vlm.runtime.text_decoder import GREEDY

ACTIVE = 0.16  # share of the patches in a sparse encode


class Captioner:
    """A captioner that computes every image whole, and beside it an encoder that computes some patches anew."""

    def __init__(self, path: Path, threads: int, tokens: int) -> None:
        load_operators(threads)
        self.own_mb, self.tokens, self.threads, begin = rss_mb(), tokens, threads, time.perf_counter()
        self.bundle = Bundle.load(path)
        self.dense, self.decoder = DenseEncoder(self.bundle, threads), TextDecoder(self.bundle, threads)
        self.info, rng = self.bundle.info, np.random.default_rng(0)
        self.image = rng.integers(0, 256, (512, 512, 3)).astype(np.uint8)
        self.all = np.arange(self.info.vision.tokens, dtype=np.int32)
        self.some = np.sort(rng.choice(self.all, round(ACTIVE * len(self.all)), replace=False))
        self.sparse: VisionEncoder | None = None
        self.decoder.generate(self.encode(), max_new_tokens=1)
        self.first_token_ms = 1e3 * (time.perf_counter() - begin)

    def encode(self) -> np.ndarray:
        return self.dense.encode(self.dense.preprocess(self.image), self.all)

    def memory_mb(self) -> float:
        """Above the interpreter's own, with nothing held that the node would have given back."""
        return_freed_memory()
        return rss_mb() - self.own_mb

    def measure_memory(self) -> dict[str, float]:
        """With a full context: of the captioner, and of one that reuses tokens in its place."""
        self.fill_context()
        without, mapped = self.memory_mb(), mapped_mb(".tflite")
        self.dense.close()
        self.sparse = VisionEncoder(self.bundle, self.threads)
        patches = self.sparse.preprocess(self.image)
        self.sparse.encode(patches, self.all)
        self.sparse.encode(patches[self.some], self.some)
        del patches
        reuse = self.memory_mb()
        self.dense = DenseEncoder(self.bundle, self.threads)
        return {"memory_mb": without, "mapped_mb": mapped, "memory_reuse_mb": reuse}

    def run(self) -> dict:
        """One caption from an image, nothing remembered; then a sparse encode."""
        self.decoder.reset()
        begin = time.perf_counter()
        features = self.encode()
        encoded = time.perf_counter()
        made = self.decoder.generate(features, max_new_tokens=self.tokens)
        done = time.perf_counter()
        patches = self.sparse.preprocess(self.image)[self.some]
        sparse = time.perf_counter()
        self.sparse.encode(patches, self.some)
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
    ready = {
        "first_token_ms": captioner.first_token_ms,
        "prompt_tokens": len(captioner.decoder.tokenizer.prompt()),
        **captioner.measure_memory(),
    }
    captioner.run()
    serve(ready, captioner.run)


if __name__ == "__main__":
    main()
