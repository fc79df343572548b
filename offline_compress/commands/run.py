# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress run RECIPE``: compress, specialise, eliminate redundancy, one after the other, resumable."""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

from edge_vlm.errors import EdgeVlmError
from edge_vlm.files import make_folder, write_json
from offline_compress.recipe.schema import DEFAULTS, STAGES, Recipe, read_recipe
from offline_compress.recipe.steps import Step, steps_of
from offline_compress.train.progress import open_console

HELP = "a recipe's stages, one after the other"
DONE = "recipe.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or one of {', '.join(DEFAULTS)}")
    parser.add_argument("--model", type=Path, metavar="HF_FOLDER", help="instead of the recipe's")
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="instead of the recipe's")
    parser.add_argument("--images", type=Path, metavar="PATH", help="instead of the recipe's data")
    parser.add_argument("--stage", choices=list(STAGES), help="this one alone")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that it stands for, then stop")
    parser.add_argument("--resume", choices=["auto", "never"], default="auto", help="leave out what is finished")


def run(args: argparse.Namespace) -> int:
    console = open_console()
    recipe = with_options(read_recipe(args.recipe), args)
    steps = steps_of(recipe)
    known = finished(recipe) if args.resume == "auto" and args.stage is None else []
    wanted = [step for step in steps if args.stage in (None, step.stage)]
    for step in wanted:
        state = "done" if words_of(step) in known else "to do"
        console.print(f"{step.stage} ({state}): {step}", highlight=False, soft_wrap=True)
    if args.dry_run:
        return 0
    for step in wanted:
        if words_of(step) in known and recipe.out.is_dir():
            continue
        console.rule(step.stage)
        execute(step, args.resume)
        known.append(words_of(step))
        make_folder(state_file(recipe).parent)
        write_json(state_file(recipe), {"recipe": recipe.name, "finished": known})
    console.print(f"{recipe.out}: done", highlight=False)
    return 0


def with_options(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    changed = {name: getattr(args, name) for name in ("model", "out", "images") if getattr(args, name) is not None}
    return replace(recipe, **changed, **({"scenes": None} if "images" in changed else {}))


def execute(step: Step, resume: str) -> None:
    """In a process of its own, whose memory is given back. Raises EdgeVlmError where it fails; it has said why."""
    command = [*step.command, *(["--resume", resume] if step.words[0] == "compress" else [])]
    status = subprocess.run(command, check=False).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise EdgeVlmError(f"stage {step.stage} ended with status {status}", "see above; run again to go on from there")


def state_file(recipe: Recipe) -> Path:
    return Path(f"{recipe.out}.work") / DONE


def finished(recipe: Recipe) -> list[list[str]]:
    """Words of the steps that were done before."""
    try:
        return json.loads(state_file(recipe).read_text(encoding="utf-8"))["finished"]
    except (OSError, ValueError, KeyError):
        return []


def words_of(step: Step) -> list[str]:
    return [str(item) for item in asdict(step)["words"]]
