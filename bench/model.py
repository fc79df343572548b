# SPDX-License-Identifier: Apache-2.0
"""A whole SmolVLM of random weights: our runtime beside transformers and llama.cpp, one after the other in rounds.

``python -m bench.model CONFIG_FOLDER``, or `make bench-model`. The folder holds config.json and tokenizer.json. The
least of all rounds is taken of every figure: what neighbours on the machine do only adds to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from bench.hollow_model import dispatch_rows, hollow_contenders
from bench.peers.contender import ROOT, Contender, require
from bench.peers.environment import peers_python
from bench.rows import Row, rows_table, write_rows
from bench.smolvlm_files import AGREEMENT, make_all
from edge_vlm.errors import EdgeVlmError
from edge_vlm.files import whole_file
from offline_compress.train.progress import counted, open_console

GGUF_TYPES = ("TQ2_0", "Q4_0", "Q8_0")
THREADS = (2, 1)
OURS = {"ours": "ternary", "ours, int4 head": "int4-head"}  # bundles


def gguf_files(checkpoint: Path, work: Path, python: str) -> dict[str, Path]:
    files = {kind: work / f"{kind}.gguf" for kind in GGUF_TYPES}
    for kind, path in files.items():
        if not path.is_file():
            command = [python, "-m", "bench.peers.gguf_file", str(checkpoint), kind, str(path)]
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
            require(done.returncode == 0, f"{path} cannot be written", done.stderr.decode()[-200:])
    return files


def contenders(work: Path, tokens: int) -> list[Contender]:
    """All of them, loaded."""
    found = [
        Contender(f"{name}, {n} threads", "ours", work / bundle, "--tokens", tokens, threads=n)
        for name, bundle in OURS.items()
        for n in THREADS
    ]
    prompt = found[0].ready.get("prompt_tokens", 77)
    checkpoint = work / "checkpoint"
    for dtype in ("bfloat16", "float32"):
        options = (checkpoint, dtype, "--prompt", prompt, "--tokens", tokens)
        found.append(Contender(f"transformers {dtype}", "pytorch", *options, threads=2))
    python = peers_python()
    for kind, path in gguf_files(checkpoint, work, python).items():
        for n in THREADS:
            options = (path, "--prompt", prompt, "--tokens", tokens)
            found.append(Contender(f"llama.cpp {kind}, {n} threads", "llama", *options, threads=n, python=python))
    return found


def all_rows(found: list[Contender], first_ms: dict[str, float], agreement: dict) -> list[Row]:
    named = {one.name: one for one in found}
    ours = named["ours, 2 threads"]
    rows = []
    for one in found:
        for figure in ("encode_ms", "prefill_ms", "token_ms", "caption_ms"):
            if one.why or (one.found and figure in one.found[0]):
                value = None if one.why else one.best(figure)
                rows.append(Row(f"{one.name}: {figure.removesuffix('_ms')}", value, "ms", note=one.why))
    for name in OURS:
        for dtype, goal in (("bfloat16", 4.0), ("float32", 9.0)):
            ratio = named[f"transformers {dtype}"].best("caption_ms") / named[f"{name}, 2 threads"].best("caption_ms")
            rows.append(Row(f"{name}: caption, times faster than transformers {dtype}", ratio, "", goal, "higher"))
    for n in THREADS:
        llama = [one for one in found if one.name.startswith("llama") and one.threads == n and one.found]
        for ours_name in OURS:
            for figure, name, goal in (("token_ms", "decode", 2.5), ("prefill_ms", "prefill", 3.0)):
                best = min((one.best(figure) for one in llama), default=float("nan"))
                ratio = best / named[f"{ours_name}, {n} threads"].best(figure)
                what = f"{ours_name}: {name}, {n} threads, times faster than llama.cpp's best"
                rows.append(Row(what, ratio, "", goal, "higher"))
    rows.append(
        Row(
            "sparse encode (16 %), times faster than dense",
            ours.best("encode_ms") / ours.best("sparse_ms"),
            "",
            4.0,
            "higher",
        )
    )
    return rows + load_rows(named, first_ms) + agreement_rows(agreement)


def first_tokens_ms(work: Path, rounds: int) -> dict[str, float]:
    """By name of ours: from the bundle's name to the first token, the least of some fresh processes."""
    least = {}
    for name, bundle in OURS.items():
        for _ in range(rounds):
            one = Contender(name, "ours", work / bundle, threads=2)
            one.close()
            least[name] = min(least.get(name, float("inf")), one.ready.get("first_token_ms", float("inf")))
    return least


def load_rows(named: dict[str, Contender], first_ms: dict[str, float]) -> list[Row]:
    rows = []
    for name in OURS:
        one = named[f"{name}, 2 threads"].ready
        note = f"of it {one.get('mapped_mb', 0):.0f} MB pages of the mapped bundle, shared with its other readers"
        what = "memory above the interpreter's own, context full"
        rows.append(Row(f"{name}: {what}", one.get("memory_mb"), "MB", 160.0, note=note))
        rows.append(Row(f"{name}: {what}, with reuse of tokens", one.get("memory_reuse_mb"), "MB", 160.0))
        what = f"{name}: load to first token, files in the page cache"
        rows.append(Row(what, first_ms[name], "ms", 500.0))
    return rows


def agreement_rows(found: dict) -> list[Row]:
    rows = []
    for variant, limit in (("original", 1e-4), ("ternary", 1e-2)):
        one = found[variant]
        rows.append(Row(f"{variant}, against transformers: error of image features", one["features_error"], "", limit))
        rows.append(Row(f"{variant}, against transformers: error of logits", one["logits_error"], "", limit))
        share = one["equal_tokens"] / one["tokens"]
        rows.append(Row(f"{variant}, against transformers: equal greedy tokens", share, "", 1.0, "higher"))
    for figure, what in (("features_error", "image features"), ("logits_error", "logits")):
        rows.append(Row(f"ternary, NumPy executor against the library: error of {what}", found["engines"][figure]))
    return rows


def draw(found: list[Contender], path: Path) -> None:
    """Time per token and, where the contender has an encoder, of the whole caption."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for axis, key, title in zip(axes, ("caption_ms", "token_ms"), ("caption, ms", "one token, ms"), strict=True):
        shown = [one for one in found if one.found and key in one.found[0]][::-1]
        bars = axis.barh([one.name for one in shown], [one.best(key) for one in shown])
        axis.bar_label(bars, fmt="%.3g")
        axis.set_title(title)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-model", description=__doc__.splitlines()[0])
    parser.add_argument(
        "config", type=Path, metavar="CONFIG_FOLDER", help="config.json and tokenizer.json of a SmolVLM"
    )
    parser.add_argument("--rounds", type=int, default=5, help="captions of each contender (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=20, help="tokens of a caption (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("out/bench/smolvlm"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/bench/model.json"), help="default: %(default)s")
    args = parser.parse_args()
    console = open_console()
    try:
        require(
            (args.config / "tokenizer.json").is_file(), f"{args.config} holds no tokenizer.json", "name a model folder"
        )
        make_all(args.config, args.work)
        found = contenders(args.work.resolve(), args.tokens)
        hollow = hollow_contenders(args.config, args.work, args.tokens, THREADS)
        everyone = [*found, *(one for pair in hollow.values() for one in pair)]
        with counted("rounds", args.rounds, console) as progress:
            for number in range(args.rounds):
                for one in everyone:
                    one.measure()
                progress(number + 1)
        for one in everyone:
            one.close()
        first_ms = first_tokens_ms(args.work.resolve(), args.rounds)
        rows = all_rows(found, first_ms, json.loads((args.work / AGREEMENT).read_text()))
        rows += dispatch_rows(hollow, {one.name: one for one in found})
        write_rows(args.out, rows)
        draw(found, args.out.with_suffix(".png"))
    except EdgeVlmError as error:
        print(error, file=sys.stderr)
        return 1
    console.print(rows_table("SmolVLM of random weights", rows))
    console.print(f"written to {args.out} and {args.out.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
