# SPDX-License-Identifier: Apache-2.0
"""Trains the router of paper S (adaptive neural compression) on what each branch would have given.

The label of a frame is the cheapest branch whose features stay within a tolerance of a whole encode [ours]. The loss is
cross-entropy, plus the expected cost of the softmax, plus a balance term on the full softmax, which keeps the
average over all branches near the labels' (a loss on the chosen branch alone collapses onto one of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from edge_vlm.anc import BRANCHES, MlpRouter
from offline_compress.train.router_oracle import Trial

_HELD_OUT_EVERY = 5  # clips


@dataclass(frozen=True)
class RouterConfig:
    """``tolerance``: scene distance from a whole encode up to which a branch is good enough. Weights of the loss terms
    are relative to the cross-entropy; ``uniform_share`` of the balance target keeps rare branches alive."""

    tolerance: float
    hidden: int = 16
    steps: int = 600
    learning_rate: float = 0.02
    cost_weight: float = 0.1
    balance_weight: float = 0.5
    uniform_share: float = 0.1
    weight_decay: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class RouterReport:
    """On clips that were not trained on. ``agreement`` with the oracle; ``within_tolerance`` of the branches chosen;
    ``cost`` and ``oracle_cost`` as a part of whole encodes; ``branch_share`` chosen, ``label_share`` of the oracle."""

    trials: int
    held_out_trials: int
    tolerance: float
    agreement: float
    within_tolerance: float
    cost: float
    oracle_cost: float
    branch_share: dict[str, float]
    label_share: dict[str, float]

    def to_json(self) -> dict:
        return asdict(self)


def oracle_label(trial: Trial, tolerance: float) -> int:
    """Index of the cheapest branch within the tolerance; branches are ordered by cost, the last has no error."""
    return int(np.argmax(trial.errors <= tolerance))


def train_router(trials: Sequence[Trial], config: RouterConfig) -> tuple[MlpRouter, RouterReport]:
    """A router from the trials of several clips, and how it does on every fifth clip, which is held out.

    Raises ValueError where there are too few trials to learn from.
    """
    held_out = [trial for trial in trials if trial.clip % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1]
    train = [trial for trial in trials if trial.clip % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]
    if len(train) < 20 or not held_out:
        raise ValueError(f"{len(trials)} frames with a choice are too few to train a router on: take more clips")
    router = _fit(train, config)
    return router, _report(router, trials, held_out, config.tolerance)


def _fit(trials: Sequence[Trial], config: RouterConfig) -> MlpRouter:
    inputs = np.stack([trial.features.vector() for trial in trials])
    mean, std = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-2)
    x = torch.from_numpy((inputs - mean) / std)
    labels = torch.tensor([oracle_label(trial, config.tolerance) for trial in trials])
    costs = torch.from_numpy(np.stack([trial.costs for trial in trials]))
    network = _train_network(x, labels, costs, config)
    layers = tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )
    return MlpRouter(layers, mean.astype(np.float32), std.astype(np.float32))


def _train_network(x, labels, costs, config: RouterConfig) -> torch.nn.Sequential:
    """``x (trials, features)``, ``labels (trials,)``, ``costs (trials, branches)``."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], config.hidden), torch.nn.ReLU(), torch.nn.Linear(config.hidden, len(BRANCHES))
        )
    share = torch.bincount(labels, minlength=len(BRANCHES)) / len(labels)
    target = (1 - config.uniform_share) * share + config.uniform_share / len(BRANCHES)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        logits = network(x)
        softmax = logits.softmax(dim=1)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss = loss + config.cost_weight * (softmax * costs).sum(dim=1).mean()
        loss = loss + config.balance_weight * ((softmax.mean(dim=0) - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _report(router: MlpRouter, trials: Sequence[Trial], held_out: Sequence[Trial], tolerance: float) -> RouterReport:
    labels = np.array([oracle_label(trial, tolerance) for trial in held_out])
    chosen = np.array([int(router.probabilities(trial.features).argmax()) for trial in held_out])
    every = np.arange(len(held_out))
    errors, costs = (np.stack([getattr(trial, name) for trial in held_out]) for name in ("errors", "costs"))
    return RouterReport(
        trials=len(trials),
        held_out_trials=len(held_out),
        tolerance=tolerance,
        agreement=float((labels == chosen).mean()),
        within_tolerance=float((errors[every, chosen] <= tolerance).mean()),
        cost=float(costs[every, chosen].mean()),
        oracle_cost=float(costs[every, labels].mean()),
        branch_share=_shares(chosen),
        label_share=_shares(labels),
    )


def _shares(indices: np.ndarray) -> dict[str, float]:
    return {branch: round(float((indices == index).mean()), 4) for index, branch in enumerate(BRANCHES)}
