# SPDX-License-Identifier: Apache-2.0
"""How much each matrix matters to what the model says: Gram matrices of its inputs, tokens weighted by the squared
gradient of the log-likelihood at its outputs.

To second order, changing a weight W by D costs ``KL = 1/2 sum_n (g_n' D x_n)^2`` of the answers, g_n being the gradient
at the output of token n for answers drawn from the model itself (Fisher information). With the rows of D independent
that is ``1/2 tr(D H D')``, ``H = sum_n mean_i(g_n,i^2) x_n x_n'``: paper Q's Hessian with a global saliency instead of
a block's own, and so in one unit for all matrices of both halves. (Ours; the papers weigh within a block.) What the
tokens of one image do together, which the sum over tokens leaves out, enters as one factor a matrix: `Coherence`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch

from offline_compress.saliency.gradient_pass import GradientPass, Report, Seen
from offline_compress.saliency.statistics import InputStatistics
from offline_compress.streaming.block import spread_tokens
from offline_compress.streaming.calibration_pairs import Batches
from offline_compress.streaming.streamed_vlm import StreamedVlm

LARGEST_GRAM = 8192  # inputs; of wider matrices the diagonal is kept
See = Callable[[str, InputStatistics], None]


class Coherence:
    """How much more the tokens of a pair do to the loss together than each for itself, for random changes of a
    weight: ``sum_pairs |sum_n g_n x_n'|^2 / sum_n |g_n|^2 |x_n|^2``."""

    def __init__(self) -> None:
        self.together = self.apart = 0.0

    def add(self, inputs: torch.Tensor, gradients: torch.Tensor, valid: torch.Tensor) -> None:
        """inputs (B, T, K), gradients (B, T, N), valid (B, T)."""
        for x, g, counted in zip(inputs, gradients, valid, strict=True):
            x, g = x[counted], g[counted]
            self.together += float((g.T @ x).float().square().sum())
            self.apart += float((g.float().square().sum(-1) * x.float().square().sum(-1)).sum())

    @property
    def factor(self) -> float:
        return self.together / self.apart if self.apart > 0 else 1.0


class Sensitivity:
    """Statistics of every Linear of the blocks, the connector and the head; ``folder`` as in `GradientPass`."""

    def __init__(self, vlm: StreamedVlm, batches: Batches, folder: Path, gram_tokens: int = 256, seed: int = 0) -> None:
        self.gradients, self.gram_tokens = GradientPass(vlm, batches, folder, seed), gram_tokens

    def measure(
        self,
        see: See,
        report: Report = lambda share, what: None,
        finished: Callable[[str], None] = lambda step: None,
        done: Collection[str] = (),
    ) -> None:
        """``see(name, statistics)``, last Linears first; ``finished`` and ``done`` as in `GradientPass.run`."""
        statistics: dict[str, InputStatistics] = {}
        coherence: dict[str, Coherence] = {}

        def look(seen: Seen) -> None:
            width = seen.inputs.shape[-1]
            if seen.name not in statistics:
                statistics[seen.name] = InputStatistics(seen.name, width, diagonal=width > LARGEST_GRAM)
                coherence[seen.name] = Coherence()
            chosen = seen.valid
            if chosen.ndim == 2:
                pairs, tokens = chosen.shape
                chosen = chosen & spread_tokens(seen.first, seen.first + pairs, tokens, self.gram_tokens)
                coherence[seen.name].add(seen.inputs, seen.gradients, seen.valid)
            weight = seen.gradients[chosen].float().square().mean(-1) * (seen.valid.sum() / chosen.sum())
            statistics[seen.name].add(seen.inputs[chosen], weight)

        def end(step: str) -> None:
            for name in list(statistics):
                statistics[name].hessian *= coherence.pop(name).factor
                see(name, statistics.pop(name))
            finished(step)

        self.gradients.run(look, end, report, done)
