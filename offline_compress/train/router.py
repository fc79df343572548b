# SPDX-License-Identifier: Apache-2.0
"""Trains the router of paper S (adaptive neural compression) on what each branch would have given.

The label of a frame is the cheapest branch whose features stay within a tolerance of a whole encode [ours]. The loss is
cross-entropy, plus the expected cost of the softmax, plus its expected excess over the tolerance, plus a balance
term on the full softmax, which keeps the average over all branches near the labels' (a loss on the chosen branch
alone collapses onto one of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from edge_vlm.anc import BRANCHES, FixedRules, MlpRouter
from edge_vlm.anc.router import Router
from offline_compress.train.router_oracle import Trial

_HELD_OUT_EVERY = 5  # clips


@dataclass(frozen=True)
class RouterConfig:
    """``tolerance``: scene distance from a whole encode up to which a branch is good enough.

    ``safety``: part of it that labels allow, since features foretell errors only roughly. Weights of the loss terms are
    relative to the cross-entropy; ``uniform_share`` of the balance target keeps rare branches alive.
    """

    tolerance: float
    safety: float = 0.85
    hidden: int = 24
    steps: int = 400
    learning_rate: float = 0.02
    cost_weight: float = 0.1
    risk_weight: float = 1.0
    balance_weight: float = 0.5
    uniform_share: float = 0.1
    weight_decay: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class RouterReport:
    """On clips that were not trained on.

    ``agreement`` with the oracle; ``within_tolerance`` of the branches chosen, and of those that fixed rules choose;
    ``cost``, ``rules_cost``, ``oracle_cost`` as a part of whole encodes; ``branch_share`` chosen, ``label_share`` of
    the oracle.
    """

    trials: int
    held_out_trials: int
    tolerance: float
    agreement: float
    within_tolerance: float
    rules_within_tolerance: float
    cost: float
    rules_cost: float
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
    return router, _report(router, len(trials), held_out, config)


def _fit(trials: Sequence[Trial], config: RouterConfig) -> MlpRouter:
    inputs = np.stack([trial.features.vector() for trial in trials])
    mean, std = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-2)
    x = torch.from_numpy((inputs - mean) / std)
    labels = torch.tensor([oracle_label(trial, config.safety * config.tolerance) for trial in trials])
    costs = torch.from_numpy(np.stack([trial.costs for trial in trials]))
    excess = np.stack([trial.errors for trial in trials]) / config.tolerance - 1.0
    network = _train_network(x, labels, costs, torch.from_numpy(np.clip(excess, 0.0, 1.0)), config)
    layers = tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )
    return MlpRouter(layers, mean.astype(np.float32), std.astype(np.float32))


def _train_network(x, labels, costs, excess, config: RouterConfig) -> torch.nn.Sequential:
    """``x (trials, features)``, ``labels (trials,)``, ``costs, excess (trials, branches)``."""
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
        loss = loss + config.risk_weight * (softmax * excess).sum(dim=1).mean()
        loss = loss + config.balance_weight * ((softmax.mean(dim=0) - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _report(router: MlpRouter, trials: int, held_out: Sequence[Trial], config: RouterConfig) -> RouterReport:
    labels = np.array([oracle_label(trial, config.safety * config.tolerance) for trial in held_out])
    chosen, by_rules = (_choices(each, held_out) for each in (router, FixedRules()))
    every = np.arange(len(held_out))
    costs = np.stack([trial.costs for trial in held_out])
    good = np.stack([trial.errors for trial in held_out]) <= config.tolerance
    return RouterReport(
        trials=trials,
        held_out_trials=len(held_out),
        tolerance=config.tolerance,
        agreement=float((labels == chosen).mean()),
        within_tolerance=float(good[every, chosen].mean()),
        rules_within_tolerance=float(good[every, by_rules].mean()),
        cost=float(costs[every, chosen].mean()),
        rules_cost=float(costs[every, by_rules].mean()),
        oracle_cost=float(costs[every, labels].mean()),
        branch_share=_shares(chosen),
        label_share=_shares(labels),
    )


def _choices(router: Router, trials: Sequence[Trial]) -> np.ndarray:
    return np.array([int(router.probabilities(trial.features).argmax()) for trial in trials])


def _shares(indices: np.ndarray) -> dict[str, float]:
    return {branch: round(float((indices == index).mean()), 4) for index, branch in enumerate(BRANCHES)}
