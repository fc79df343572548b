# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress run RECIPE``: compress, specialise, eliminate redundancy, one after the other, resumable."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_vlm.errors import EdgeVlmError, InputError
from edge_vlm.files import make_folder, write_json
from edge_vlm.interrupts import INTERRUPTED
from offline_compress.export.checkpoint import model_stamp
from offline_compress.recipe.schema import DEFAULTS, STAGES, Recipe, read_recipe
from offline_compress.recipe.steps import Step, steps_of
from offline_compress.train.progress import open_console

DONE = "recipe.json"
INTERRUPTED_TOO_S = 2.0  # Ctrl-C reaches a step as well as us, SIGTERM only us


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
    check_paths(recipe, args.recipe)
    done = done_before(recipe, steps) if args.resume == "auto" else 0
    if args.stage and args.stage not in {step.stage for step in steps}:
        raise InputError(f"{args.recipe}: no stage {args.stage}", f"it has {', '.join(step.stage for step in steps)}")
    wanted = [number for number, step in enumerate(steps) if args.stage in (None, step.stage)]
    redone = set(wanted) if args.stage else set(range(done, len(steps)))
    for number in wanted:
        state = "to do" if number in redone else "done"
        console.print(f"{steps[number].stage} ({state}): {steps[number]}", highlight=False, soft_wrap=True)
    if args.dry_run:
        return 0
    after = {step.stage for step in steps[max(wanted, default=0) + 1 :]} if redone else set()
    if after:
        console.print(f"then to be done again: {', '.join(sorted(after))} (run the recipe without --stage)")
    for number in wanted:
        if number not in redone:
            continue
        console.rule(steps[number].stage)
        note_done(recipe, steps[: min(done, number)])  # what this one changes, later steps did not see
        execute(steps[number], args.resume)
        done = number + 1 if done >= number else done
        note_done(recipe, steps[:done])
    console.print(f"{recipe.out}: done", highlight=False)
    return 0


def with_options(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    changed = {name: getattr(args, name) for name in ("model", "out", "images") if getattr(args, name) is not None}
    return replace(recipe, **changed, **({"scenes": None} if "images" in changed else {}))


def check_paths(recipe: Recipe, where: str) -> None:
    """Raises InputError for what the recipe names and what is not there, before the first step runs."""
    compress, specialise = recipe.stages.get("compress"), recipe.stages.get("specialise")
    named = [("model", recipe.model), ("data: images", recipe.images), ("data: scenes", recipe.scenes)]
    named += [("compress: plan", compress and compress.plan), ("specialise: images", specialise and specialise.images)]
    named += [("specialise: bags", bag) for bag in (specialise.bags if specialise else ())]
    for entry, path in named:
        if path is not None and not Path(path).exists():
            raise InputError(f"{where}: {entry}: there is no {path}", "name a file or folder that is there")


def execute(step: Step, resume: str) -> None:
    """In a process of its own, whose memory is given back. Raises EdgeVlmError where it fails; it has said why."""
    status = ended([*step.command, "--resume", resume])
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise EdgeVlmError(f"stage {step.stage} ended with status {status}", "see above; run again to go on from there")


def ended(command: Sequence[str]) -> int:
    """Exit status of a command. Where we are interrupted it is asked to end as well, and waited for: it has checkpoints
    to close and processes of its own to end."""
    with subprocess.Popen(command) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(INTERRUPTED_TOO_S)
            child.terminate()
            child.wait()
            raise


def state_file(recipe: Recipe) -> Path:
    return Path(f"{recipe.out}.work") / DONE


def done_before(recipe: Recipe, steps: Sequence[Step]) -> int:
    """How many steps from the first on were done, of this model, words and files, and left what they make."""
    try:
        state = json.loads(state_file(recipe).read_text(encoding="utf-8"))
        known, model = state["finished"], state["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    if model != model_stamp(recipe.model):
        return 0
    done = 0
    for step, words in zip(steps, known, strict=False):
        if words != told(step) or not step.makes.exists():
            break
        done += 1
    return done


def note_done(recipe: Recipe, steps: Sequence[Step]) -> None:
    make_folder(state_file(recipe).parent)
    done, stamp = [told(step) for step in steps], model_stamp(recipe.model)
    write_json(state_file(recipe), {"recipe": recipe.name, "model": stamp, "finished": done})


def told(step: Step) -> list[str]:
    """What decides the outcome of a step beside the model: its words, and what stands in the files that they name."""
    return [*map(str, step.words), *(contents_stamp(path) for path in step.reads)]


def contents_stamp(path: Path) -> str:
    """Size and time of a file, or number and latest time of what a folder holds; empty where there is neither."""
    if path.is_dir():
        times = [entry.stat().st_mtime_ns for entry in path.iterdir()]
        return f"{len(times)} files, the last of {max(times, default=0)}"
    return f"{path.stat().st_size} bytes of {path.stat().st_mtime_ns}" if path.is_file() else ""
