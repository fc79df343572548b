# SPDX-License-Identifier: Apache-2.0
"""A recipe as the commands that it stands for: each can be run alone, and prints its cost before it starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from edge_vlm.errors import InputError
from offline_compress.recipe.schema import Compress, Eliminate, Recipe, Specialise


@dataclass(frozen=True)
class Step:
    """``words``: arguments of edge-vlm-compress; ``processes`` > 1: under torchrun."""

    stage: str
    words: tuple[str, ...]
    processes: int = 1

    @property
    def makes(self) -> Path:
        """The folder that it writes, or changes."""
        at = self.words.index("--out") + 1 if "--out" in self.words else 1
        return Path(self.words[at])

    @property
    def reads(self) -> tuple[Path, ...]:
        """Plan, images and recordings that it is given."""
        words = self.words
        named = [after for word, after in pairwise(words) if word in ("--images", "--data-cache", "--plan")]
        sources = words[2 : words.index("--out")] if words[0] == "gather" else ()
        return tuple(Path(name) for name in (*named, *sources))

    @property
    def command(self) -> list[str]:
        module = ["-m", "offline_compress", *self.words]
        if self.processes == 1:
            return [sys.executable, *module]
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={self.processes}",
            *module,
        ]

    def __str__(self) -> str:
        return " ".join(("edge-vlm-compress", *self.words)) + (
            f"  ({self.processes} processes)" if self.processes > 1 else ""
        )


def steps_of(recipe: Recipe) -> list[Step]:
    """Raises InputError where the recipe and the command line leave the model, the output or the data open."""
    if recipe.model is None or recipe.out is None:
        raise InputError(
            f"recipe {recipe.name}: no model or no out", "name them in the recipe, or by --model and --out"
        )
    made = []
    for name, stage in recipe.stages.items():
        if isinstance(stage, Compress):
            made.append(Step(name, compress_words(recipe, stage), stage.processes))
        elif isinstance(stage, Specialise):
            made += specialise_steps(recipe, stage)
        elif isinstance(stage, Eliminate):
            made.append(Step(name, ("train-router", str(recipe.out), *options(clips=stage.clips, seed=recipe.seed))))
    return made


def compress_words(recipe: Recipe, stage: Compress, images: Path | None = None, work: str = "") -> tuple[str, ...]:
    data = options(images=images or recipe.images) if images or recipe.images else options(data_cache=recipe.scenes)
    if not data:
        raise InputError(f"recipe {recipe.name}: compress has no data", "name images or scenes, or give --images")
    work = f"{recipe.out}.work{work}"
    return (
        "compress", str(recipe.model), "--out", str(recipe.out), "--work", work, *data,
        *options(method=stage.method, bits=stage.bits, budget_mb=stage.budget_mb, plan=stage.plan, solver=stage.solver,
                 pairs=stage.pairs, steps=stage.steps, batch=stage.batch, heldout=stage.heldout, seed=recipe.seed),
    )  # fmt: skip


def specialise_steps(recipe: Recipe, stage: Specialise) -> list[Step]:
    """The user's own images, captioned where they are not; then the compression anew with them."""
    compress = recipe.stages["compress"]
    images = Path(f"{recipe.out}.work") / "domain"
    sources = [stage.images] if stage.images else list(stage.bags)
    gather = (
        "gather",
        str(recipe.model),
        *sources,
        "--out",
        str(images),
        *options(every=stage.every, most=2 * stage.pairs),
    )
    steps = compress.steps if stage.steps is None else stage.steps
    again = replace(compress, pairs=stage.pairs, steps=steps)
    return [
        Step("specialise", gather),
        Step("specialise", compress_words(recipe, again, images, "-domain"), compress.processes),
    ]


def options(**values: object) -> tuple[str, ...]:
    """--name value of each that is not None."""
    words: list[str] = []
    for name, value in values.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(words)
