# SPDX-License-Identifier: Apache-2.0
"""Training-free compression of models of random weights: time, memory and bytes of the whole SmolVLM-256M's shapes, and
of a few blocks of the 2.2B's, extrapolated.

    python -m bench.large_models --config FOLDER --work DIR --sizes 256m 2b

FOLDER holds the published config.json and tokenizer.json of SmolVLM-256M. A run that is ended goes on where it was; its
time is the sum of its finished stages.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bench.rows import Row, rows_table, write_rows
from edge_vlm.commands.numbers import count, positive
from edge_vlm.files import make_folder, write_json
from offline_compress.models.random_checkpoint import SMOLVLM_2B, with_sizes, write_random_checkpoint
from offline_compress.models.token_sequences import IGNORED_LABEL
from offline_compress.quantize.plan import Plan, Rule
from offline_compress.train.calibration import calibrated
from offline_compress.train.compression import Source, report_of, write_bundle
from offline_compress.train.progress import open_console
from offline_compress.train.training_free import TrainingFree

TEXT_TOKENS, ANSWER_TOKENS = 40, 12  # of question and caption, beside the image's; of the caption alone
GOALS = {"256m": (15.0, 4.0), "256m-few": (15.0, 4.0), "2b": (None, 8.0)}  # minutes, GB
BUNDLE_MB = 95.0
FEW = 2  # blocks of each half that are really computed, of all but 256m
KEPT = Rule(r".*(embed_tokens|lm_head|patch_embedding)", "int8", "tables of tokens, pixels")
TERNARY = Plan("ternary", (KEPT, Rule(".*", "ternary", "all else")))


@dataclass
class Measured:
    """``stages``: seconds by stage; ``peak_gb``: of the process, the largest of all pieces."""

    stages: dict[str, float]
    peak_gb: float
    bundle_mb: float | None
    precision: str
    blocks: dict[str, int]


class RandomPairs:
    """Pairs of noise with random words, in the model's own shapes."""

    def __init__(self, config: dict, pairs: int) -> None:
        self.config, self.pairs = config, pairs

    def __len__(self) -> int:
        return -(-self.pairs // 8)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        size, vision = min(8, self.pairs - 8 * index), self.config["vision_config"]
        image_tokens = (vision["image_size"] // vision["patch_size"] // self.config["scale_factor"]) ** 2
        ids = torch.randint(100, 40000, (size, image_tokens + TEXT_TOKENS), generator=generator)
        ids[:, 4 : 4 + image_tokens] = self.config["image_token_id"]
        pixels = torch.randn(size, 1, 3, vision["image_size"], vision["image_size"], generator=generator)
        labels = ids.clone()
        labels[:, :-ANSWER_TOKENS] = IGNORED_LABEL
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def piece(size: str, work: Path, pairs: int, minutes: float) -> None:
    """Goes on with the run for so many minutes, in this process; what was measured is in WORK/SIZE.json."""
    folder, path = work / size, work / f"{size}.json"
    source = Source.read(folder, "mixed", TERNARY)
    dtype = TrainingFree().dtype(10**9)
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"stages": {}, "peak_gb": 0.0}
    began, last = time.perf_counter(), [time.perf_counter(), "reading"]

    def keep(bundle_mb: float | None, ended: bool) -> None:
        peak = max(old["peak_gb"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        blocks = {part: source.weights.config[f"{part}_config"]["num_hidden_layers"] for part in ("vision", "text")}
        found = Measured(old["stages"], round(peak, 3), bundle_mb, str(dtype).removeprefix("torch."), blocks)
        write_json(path, {**asdict(found), "ended": ended})

    def report(share: float, what: str) -> None:
        now = time.perf_counter()
        old["stages"][last[1]] = old["stages"].get(last[1], 0.0) + now - last[0]
        last[:] = [now, what]
        print(f"{size}: {100 * share:.0f} %, {what}", flush=True)
        keep(None, True)
        if share < 1 and now - began > 60 * minutes:
            raise KeyboardInterrupt

    bundle_mb, ended = None, False
    try:
        weights, rows = calibrated(
            source,
            RandomPairs(source.weights.config, pairs),
            "gptq",
            "answers",
            report,
            work / f"{size}.blocks",
            True,
            dtype,
        )
        if (folder / "tokenizer.json").is_file() and size == "256m":
            write_bundle(source, weights, work / "bundle", size, report_of(source, rows, None, None))
            bundle_mb = sum(file.stat().st_size for file in (work / "bundle").iterdir()) / 1e6
        report(1.0, "written")
    except KeyboardInterrupt:
        ended = True
    keep(bundle_mb, ended)


def prepare(size: str, config_folder: Path, work: Path) -> dict:
    """The checkpoint of random weights; returns the whole model's configuration."""
    config = json.loads((config_folder / "config.json").read_text(encoding="utf-8"))
    whole = with_sizes(config, SMOLVLM_2B) if size == "2b" else config
    few = {part: {"num_hidden_layers": FEW} for part in ("vision_config", "text_config")}
    if not (work / size / "config.json").is_file():
        write_random_checkpoint(whole if size == "256m" else with_sizes(whole, few), work / size)
        shutil.copy(config_folder / "tokenizer.json", work / size / "tokenizer.json")
    return whole


def rows_of(size: str, config_folder: Path, work: Path, pairs: int, minutes: float) -> list[Row]:
    """Runs what is missing in processes of their own, then gives the figures."""
    make_folder(work)
    whole = prepare(size, config_folder, work)
    command = [
        sys.executable,
        "-m",
        "bench.large_models",
        "--piece",
        size,
        "--work",
        str(work),
        "--pairs",
        str(pairs),
        "--minutes",
        str(minutes),
    ]
    if (
        not (work / f"{size}.json").is_file()
        or json.loads((work / f"{size}.json").read_text(encoding="utf-8"))["ended"]
    ):
        subprocess.run(command, check=True)
    found = json.loads((work / f"{size}.json").read_text(encoding="utf-8"))
    if found["ended"]:
        return [Row(f"{size}: training-free compression", None, "min", GOALS[size][0], note="not finished; run again")]
    goal_minutes, goal_gb = GOALS[size]
    minutes_taken, note = (
        extrapolated(found, whole) / 60,
        f"{pairs} pairs, {found['precision']}, {torch.get_num_threads()} threads",
    )
    if size != "256m":
        note += f"; measured on {FEW} + {FEW} blocks"
    rows = [
        Row(f"{size}: training-free compression", minutes_taken, "min", goal_minutes, note=note),
        Row(f"{size}: peak memory of it", found["peak_gb"], "GB", goal_gb, note=note),
    ]
    if found["bundle_mb"]:
        rows.append(Row(f"{size}: bundle, ternary with int8 embeddings and head", found["bundle_mb"], "MB", BUNDLE_MB,
                        note="embeddings and head are two tables of 28.4 MB"))  # fmt: skip
    return rows


def extrapolated(found: dict, whole: dict) -> float:
    """Seconds of the whole model: each half's blocks cost alike."""
    total = sum(found["stages"].values())
    for part, prefix in (("vision", "model.vision_model"), ("text", "model.text_model")):
        stages = found["stages"].items()
        seconds = sum(value for name, value in stages if name.removeprefix("saliency: ").startswith(prefix))
        total += seconds * (whole[f"{part}_config"]["num_hidden_layers"] / found["blocks"][part] - 1)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="FOLDER", help="config.json and tokenizer.json of SmolVLM-256M")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="checkpoints, states, results")
    parser.add_argument("--sizes", nargs="+", choices=list(GOALS), default=["256m", "2b"])
    parser.add_argument("--pairs", type=count, default=128, help="calibration pairs (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=9.0, help="of a piece (default: %(default)s)")
    parser.add_argument("--piece", choices=list(GOALS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="JSON", help="the rows")
    args = parser.parse_args()
    if args.piece:
        piece(args.piece, args.work, args.pairs, args.minutes)
        return 0
    rows = [row for size in args.sizes for row in rows_of(size, args.config, args.work, args.pairs, args.minutes)]
    open_console().print(rows_table("Large models, random weights", rows))
    if args.out:
        write_rows(args.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
