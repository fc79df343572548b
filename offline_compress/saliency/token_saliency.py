# SPDX-License-Identifier: Apache-2.0
"""How much every calibration token counts at every Linear: by what the model says, not by what its block gives.

Paper Q weighs a token by the gradient of its block's own squared error, in which tokens that no answer ever looks at
(the words before the image, most of an image) count like all others. Here the same measure, ``g_n = mean_i |g_n,i|``,
is taken of the gradient of the answers' log-likelihood, from one pass back through the whole float model (ours).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from edge_vlm.errors import EdgeVlmError
from edge_vlm.files import make_folder, whole_file
from offline_compress.errors import QuantizeError
from offline_compress.saliency.gradient_pass import GradientPass, Report, Seen
from offline_compress.saliency.statistics import clipped_to_mean_one
from offline_compress.streaming.calibration_pairs import Batches
from offline_compress.streaming.streamed_vlm import StreamedVlm


class TokenSaliency:
    """``folder`` keeps it, a file for each step of the pass, so that an interrupted measurement goes on."""

    def __init__(self, vlm: StreamedVlm, batches: Batches, folder: Path, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.gradients = GradientPass(vlm, batches, self.folder / "states", seed)

    def measure(self, report: Report = lambda share, what: None) -> None:
        """Nothing where all is known. Raises QuantizeError as `GradientPass.run`, OutputError for a full disk."""
        steps = self.gradients.steps()
        done = [step for step in steps if self.path(step).is_file()]
        if len(done) < len(steps):
            make_folder(self.gradients.folder)
            found: dict[str, list[torch.Tensor]] = defaultdict(list)

            def look(seen: Seen) -> None:
                found[seen.name].append(seen.gradients[seen.valid].float().abs().mean(-1))

            def finished(step: str) -> None:
                with whole_file(self.path(step)) as file:
                    np.savez(file, **{name: torch.cat(values).numpy() for name, values in found.items()})
                found.clear()

            try:
                self.gradients.run(look, finished, report, done)
            except EdgeVlmError:  # the hidden states are large, and without them no step can be gone on from
                shutil.rmtree(self.folder, ignore_errors=True)
                raise

    def drop_states(self) -> None:
        """The float model's hidden states, which whoever solves the blocks may want first."""
        shutil.rmtree(self.gradients.folder, ignore_errors=True)

    def of(self, block: str) -> dict[str, torch.Tensor]:
        """By Linear within the block, of the valid tokens of all pairs: (tokens,), clipped, mean 1. Raises
        QuantizeError for a file that is damaged."""
        path = self.path(block)
        try:
            with np.load(path, allow_pickle=False) as kept:
                found = {name: torch.from_numpy(kept[name]) for name in kept.files}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise QuantizeError(f"{path}: damaged ({error})", "start anew with --resume never") from error
        return {name.removeprefix(f"{block}."): clipped_to_mean_one(values) for name, values in found.items()}

    def path(self, step: str) -> Path:
        return self.folder / f"{step}.npz"
