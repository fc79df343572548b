# SPDX-License-Identifier: Apache-2.0
"""llama.cpp (from the wheel of xllamacpp) on the text model alone: a prompt of as many tokens, then decoding."""

from __future__ import annotations

import argparse
from pathlib import Path

import xllamacpp

from bench.peers.contender import serve


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=20)
    args = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = str(args.gguf)
    params.n_ctx, params.n_parallel, params.warmup = 1024, 1, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    server = xllamacpp.Server(params)
    request = {
        "prompt": list(range(100, 100 + args.prompt)), "n_predict": args.tokens, "temperature": 0.0,
        "ignore_eos": True, "cache_prompt": False,
    }  # fmt: skip

    def run() -> dict:
        times = server.handle_completions(request)["timings"]
        return {"prefill_ms": times["prompt_ms"], "token_ms": times["predicted_per_token_ms"]}

    run()
    serve({}, run)


if __name__ == "__main__":
    main()
