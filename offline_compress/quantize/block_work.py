# SPDX-License-Identifier: Apache-2.0
"""The work folder of a block-wise run: finished stages, each whole or absent, so that a run can go on where it ended.

WORK/run.json              what the run is of; another model, plan or calibration set is refused
WORK/003-NAME/             a stage: wanted.bin, hidden.bin (its hidden states), matrices, done.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from edge_vlm.errors import OutputError
from edge_vlm.files import make_folder, whole_folder, write_json
from offline_compress.errors import QuantizeError
from offline_compress.quantize.solved_linear import SolvedLinear, load_solved, save_solved
from offline_compress.streaming.hidden_states import HiddenStates

IDENTITY, DONE = "run.json", "done.json"
WANTED, HIDDEN = "wanted.bin", "hidden.bin"


@dataclass(frozen=True)
class States:
    """Hidden states of the float model (``wanted``) and of the quantised one."""

    wanted: HiddenStates
    hidden: HiddenStates

    @staticmethod
    def at(folder: Path, shape: tuple[int, int, int], dtype: torch.dtype, wanted: HiddenStates | None = None) -> States:
        """Both in ``folder``, but for those of the float model that stand elsewhere."""
        return States(
            wanted or HiddenStates(folder / WANTED, shape, dtype), HiddenStates(folder / HIDDEN, shape, dtype)
        )


class BlockWork:
    """Stages in the order in which they are done."""

    def __init__(self, folder: Path, identity: dict, resume: bool) -> None:
        """Raises QuantizeError where the folder holds another run, OutputError where it cannot be written."""
        self.folder = Path(folder)
        if not resume:
            self.remove()
        make_folder(self.folder)
        for left in self.folder.glob(".*"):  # of a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        path = self.folder / IDENTITY
        if path.is_file() and read_identity(path) != identity:
            raise QuantizeError(
                f"{self.folder}: work of another model, plan or calibration set",
                "start anew with --resume never, or name another --work folder",
            )
        write_json(path, identity)

    def stage(self, number: int, name: str) -> Path:
        return self.folder / f"{number:03d}-{name}"

    def is_done(self, number: int, name: str) -> bool:
        return (self.stage(number, name) / DONE).is_file()

    @contextmanager
    def writing(self, number: int, name: str) -> Iterator[Path]:
        """A folder for a stage, which is done when the block ends well."""
        with whole_folder(self.stage(number, name)) as folder:
            yield folder
            write_json(folder / DONE, {"stage": name})

    def drop_states(self, number: int, name: str) -> None:
        """A stage's hidden states are needed until the next stage is done."""
        for file in (WANTED, HIDDEN):
            (self.stage(number, name) / file).unlink(missing_ok=True)

    def save(self, folder: Path, solved: dict[str, SolvedLinear]) -> None:
        for name, matrix in solved.items():
            save_solved(folder, name, matrix)

    def solved(self, number: int, name: str) -> dict[str, SolvedLinear]:
        folder = self.stage(number, name)
        names = sorted(path.name.removesuffix(".npz") for path in folder.glob("*.npz"))
        return {matrix: load_solved(folder, matrix) for matrix in names}

    def require_space(self, needed: int) -> None:
        """Raises OutputError before anything is computed that could not be kept. What an interrupted run left counts as
        room that is there."""
        require_space(self.folder, needed - bytes_in(self.folder), "hidden states and codes", "give fewer --pairs")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str, less: str) -> None:
    """Raises OutputError where the disk of ``folder`` has not that many bytes free; ``less`` needs less."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{folder}: {needed / 1e9:.2f} GB are needed for {what}, {free / 1e9:.2f} GB are free",
            f"free space, name a --work folder on another disk, or {less}",
        )


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_identity(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
