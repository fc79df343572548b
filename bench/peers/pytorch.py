# SPDX-License-Identifier: Apache-2.0
"""transformers on the same checkpoint, in bfloat16 or float32."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, DynamicCache

from bench.peers.contender import serve


class Captioner:
    def __init__(self, folder: Path, dtype: torch.dtype, prompt_tokens: int, tokens: int) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        config, self.tokens = self.model.config, tokens
        patches = config.vision_config.image_size // config.vision_config.patch_size
        self.ids = torch.full((1, prompt_tokens), 10)
        self.ids[0, 4 : 4 + (patches // config.scale_factor) ** 2] = config.image_token_id
        size = config.vision_config.image_size
        self.pixels = torch.randn(1, 1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)

    @torch.inference_mode()
    def run(self) -> dict:
        begin = time.perf_counter()
        found = self.model.model.get_image_features(self.pixels)
        features = torch.cat(list(getattr(found, "pooler_output", found)))
        features = features if features.ndim == 3 else features[None]
        encoded = time.perf_counter()
        cache = DynamicCache()
        out = self.model(
            input_ids=self.ids, image_hidden_states=features, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        prefilled = time.perf_counter()
        for _ in range(self.tokens - 1):  # prefill gave the first
            out = self.model(input_ids=out.logits[:, -1:].argmax(-1), past_key_values=cache, use_cache=True)
        done = time.perf_counter()
        return {
            "encode_ms": 1e3 * (encoded - begin),
            "prefill_ms": 1e3 * (prefilled - encoded),
            "token_ms": 1e3 * (done - prefilled) / max(1, self.tokens - 1),
            "caption_ms": 1e3 * (done - begin),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("dtype", choices=["bfloat16", "float32"])
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    captioner = Captioner(args.folder, getattr(torch, args.dtype), args.prompt, args.tokens)
    captioner.run()
    serve({}, captioner.run)


if __name__ == "__main__":
    main()
