# SPDX-License-Identifier: Apache-2.0
"""What a recipe may say, checked before anything runs.

    model: path/to/hf_folder
    out: path/to/bundle
    data: {images: photos/}          # or {scenes: CACHE} of train-demo
    seed: 0
    stages:                          # in this order, each may be left out
      compress: {method: auto, bits: 4.0, pairs: 128}
      specialise: {bags: [kitchen.mcap], pairs: 128}
      eliminate: {clips: 80}

The three stages of paper S (arXiv 2511.18504): compression-aware training, specialisation to a domain, redundancy
elimination. The last is done last: gate and router are calibrated on the encoder that goes on board.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import TypeVar, get_type_hints

from edge_vlm.errors import InputError
from offline_compress.quantize.plan import SOLVERS, VARIANTS

DEFAULTS = ("no-training", "one-gpu-evening", "many-gpus")
MAY_BE_ZERO = (": steps", ": heldout")  # no training, nothing measured
S = TypeVar("S")


@dataclass(frozen=True)
class Compress:
    """``method`` as of the command compress; ``bits`` a weight of the blocks, or ``budget_mb``, with method auto.
    ``steps`` of training, 0 for none, taken together by ``processes`` (torchrun)."""

    method: str = "auto"
    bits: float | None = None
    budget_mb: float | None = None
    plan: str | None = None
    solver: str | None = None
    pairs: int = 128
    steps: int = 0
    batch: int = 32
    processes: int = 1
    heldout: int = 200


@dataclass(frozen=True)
class Specialise:
    """Images, or recordings of which every ``every``-th image is taken. Images without a caption are captioned by the
    float model. ``steps`` None: those of the stage compress."""

    images: str | None = None
    bags: tuple[str, ...] = ()
    every: int = 30
    pairs: int = 128
    steps: int | None = None


@dataclass(frozen=True)
class Eliminate:
    """Rendered ``clips`` on which the gate is calibrated and the router is trained."""

    clips: int = 80


STAGES = {"compress": Compress, "specialise": Specialise, "eliminate": Eliminate}


@dataclass(frozen=True)
class Recipe:
    """``stages`` by name, in the order in which they run."""

    name: str
    model: Path | None
    out: Path | None
    images: Path | None
    scenes: Path | None
    seed: int
    stages: dict[str, Compress | Specialise | Eliminate]


def read_recipe(path: Path | str) -> Recipe:
    """A file, or the name of a default. Raises InputError naming the file, the entry and what it may be."""
    import yaml

    where, text = str(path), recipe_text(path)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML ({' '.join(str(error).split())})", "see docs/compress.md") from error
    return recipe_of(value, where)


def recipe_text(path: Path | str) -> str:
    if str(path) in DEFAULTS:
        return (files(__package__) / "defaults" / f"{path}.yaml").read_text(encoding="utf-8")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(
            f"{path}: cannot be read ({reason})", f"name a file, or one of {', '.join(DEFAULTS)}"
        ) from error


def recipe_of(value: object, where: str) -> Recipe:
    top = entries(value, {"model", "out", "data", "seed", "stages"}, where)
    data = entries(top.get("data") or {}, {"images", "scenes"}, f"{where}: data")
    if len(data) > 1:
        raise InputError(f"{where}: data names images and scenes", "keep one of them")
    given = entries(top.get("stages"), set(STAGES), f"{where}: stages")
    if not given:
        raise InputError(f"{where}: no stages", f"name some of {', '.join(STAGES)}")
    stages = {name: stage_of(given[name] or {}, STAGES[name], f"{where}: {name}") for name in STAGES if name in given}
    seed = top.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"{where}: seed is {seed!r}", "give a whole number, 0 or more")
    paths = [None if item is None else Path(str(item)) for item in
             (top.get("model"), top.get("out"), data.get("images"), data.get("scenes"))]  # fmt: skip
    recipe = Recipe(Path(where).stem, *paths, seed, stages)
    check_stages(recipe, where)
    return recipe


def check_stages(recipe: Recipe, where: str) -> None:
    compress, specialise = recipe.stages.get("compress"), recipe.stages.get("specialise")
    if compress is not None:
        methods = [*(name for name in VARIANTS if name != "mixed"), "auto"]
        for entry, value, known in (("method", compress.method, methods), ("solver", compress.solver, SOLVERS)):
            if value is not None and value not in known:
                raise InputError(f"{where}: compress: {entry} is {value!r}", f"use one of {', '.join(known)}")
        sizes = [value for value in (compress.bits, compress.budget_mb) if value is not None]
        if (compress.method == "auto") != (len(sizes) == 1):
            raise InputError(
                f"{where}: compress: method auto goes with bits or budget_mb", "give one of the two with it"
            )
        if compress.steps and compress.method == "auto":
            raise InputError(f"{where}: compress: method auto is without training", "give method: ternary, or steps: 0")
    if specialise is not None and bool(specialise.images) == bool(specialise.bags):
        raise InputError(f"{where}: specialise: images or bags", "give one of the two")
    if specialise is not None and compress is None:
        raise InputError(f"{where}: specialise compresses anew, and has no stage compress to follow", "add it")


def entries(value: object, known: set[str], where: str) -> dict:
    if not isinstance(value, dict):
        raise InputError(f"{where}: {value!r} is no table of entries", f"known are {', '.join(sorted(known))}")
    for name in value:
        if name not in known:
            raise InputError(f"{where}: no entry is called {name!r}", f"known are {', '.join(sorted(known))}")
    return value


def stage_of(value: object, kind: type[S], where: str) -> S:
    given, hints = entries(value, {field.name for field in fields(kind)}, where), get_type_hints(kind)
    return kind(**{name: entry_of(item, str(hints[name]), f"{where}: {name}") for name, item in given.items()})


def entry_of(value: object, hint: str, where: str) -> object:
    """``hint``: the annotation as text, such as "<class 'int'>" or "float | None"."""
    if value is None and "None" in hint:
        return None
    if "tuple" in hint:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise InputError(f"{where} is {value!r}", "give a list of names")
    kind = next(kind for kind in (str, float, int) if kind.__name__ in hint)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is str and isinstance(value, str):
        return value
    if kind is float and number and value > 0:
        return float(value)
    if kind is int and number and isinstance(value, int) and value >= (0 if where.endswith(MAY_BE_ZERO) else 1):
        return value
    raise InputError(f"{where} is {value!r}", f"give a {'name' if kind is str else 'positive number'}")
