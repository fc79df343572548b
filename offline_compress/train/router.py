# SPDX-License-Identifier: Apache-2.0
"""Trains the router of paper S (adaptive neural compression) on what each branch would have given.

The network foretells for each branch whether its features stay within a tolerance of a whole encode; what a branch
costs is known [ours]. The loss: logistic, in which a branch that is wrongly trusted weighs more the further out of
tolerance it is (too cheap is worse than too dear); plus what the softmax over all branches would cost and risk; plus a
balance term on that full softmax, which keeps its average near the oracle's choices (a loss on the chosen branch alone
collapses onto one of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from edge_vlm.anc import BRANCHES, FixedRules, MlpRouter
from edge_vlm.anc.router import INPUT_LIMIT
from edge_vlm.runtime.bundle import VisionInfo
from offline_compress.train.router_oracle import Trial

_FOLDS = 5
_EXCESS_LIMIT = 2.0
_FEWEST_TRIALS = 20


@dataclass(frozen=True)
class RouterConfig:
    """``tolerance``: scene distance from a whole encode up to which a branch is good enough.

    ``cost_weight``: what a whole encode costs, in frames within the tolerance. ``excess_weight``: how much more a
    branch twice as far off as allowed weighs than one that is just out. ``choice_weight`` and ``balance_weight`` are
    relative to the logistic loss; ``uniform_share`` of the balance target keeps rare branches alive.
    """

    tolerance: float
    cost_weight: float = 0.6
    temperature: float = 0.1
    excess_weight: float = 0.25
    choice_weight: float = 0.2
    balance_weight: float = 0.1
    uniform_share: float = 0.05
    hidden: int = 12
    steps: int = 300
    learning_rate: float = 0.02
    l2_weight: float = 0.002
    seed: int = 0


@dataclass(frozen=True)
class RouterReport:
    """On clips that were not trained on: of five networks, each judges the fifth of the clips that it never saw.

    ``agreement`` with the oracle; ``within_tolerance`` of the branches chosen, of those that fixed rules choose, and of
    ``sparse`` always; ``excess`` over the tolerance, relative to it; ``cost`` as a part of whole encodes;
    ``at_rules_cost``: within tolerance where the router's ``cost_weight`` makes it cost what the rules do.
    ``oracle_cost_without_shallow`` tells what that branch is worth. ``branch_share`` chosen, ``label_share`` of the
    oracle.
    """

    trials: int
    tolerance: float
    agreement: float
    within_tolerance: float
    at_rules_cost: float
    rules_within_tolerance: float
    sparse_within_tolerance: float
    shallow_within_tolerance: float
    reuse_within_tolerance: float
    excess: float
    rules_excess: float
    cost: float
    rules_cost: float
    sparse_cost: float
    oracle_cost: float
    oracle_cost_without_shallow: float
    branch_share: dict[str, float]
    label_share: dict[str, float]

    def to_json(self) -> dict:
        return asdict(self)


def branch_costs(vision: VisionInfo) -> np.ndarray:
    """Of each branch as a part of a whole encode: ``(fixed, per active fraction)``, float32 ``(4, 2)``."""
    whole = vision.encoder_macs(vision.tokens)
    rows = [(0.0, 0.0)]
    for shallow in (True, False):
        fixed = vision.project_macs / whole
        rows.append((fixed, vision.encoder_macs(vision.tokens, shallow) / whole - fixed))
    return np.array([*rows, (1.0, 0.0)], np.float32)


def train_router(trials: Sequence[Trial], costs: np.ndarray, config: RouterConfig) -> tuple[MlpRouter, RouterReport]:
    """A router from all trials, and how routers like it do on clips that they have not seen.

    Raises ValueError where there are too few trials to learn from.
    """
    folds = [[trial for trial in trials if trial.clip % _FOLDS == fold] for fold in range(_FOLDS)]
    fewest = _FEWEST_TRIALS * _FOLDS
    if len(trials) < fewest or not all(folds):
        raise ValueError(
            f"{len(trials)} frames with a choice are too few to train a router on: {fewest} are needed, from at least"
            f" {_FOLDS} clips"
        )
    judged, chances = [], []
    for fold, held_out in enumerate(folds):
        others = [trial for number, part in enumerate(folds) if number != fold for trial in part]
        router = fit_router(others, costs, config)
        judged += held_out
        chances += [router.within_tolerance(trial.features) for trial in held_out]
    return fit_router(trials, costs, config), _report(judged, np.array(chances), config)


def fit_router(trials: Sequence[Trial], costs: np.ndarray, config: RouterConfig) -> MlpRouter:
    inputs = np.stack([trial.features.vector() for trial in trials])
    mean, std = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-2)
    x = torch.from_numpy(np.clip((inputs - mean) / std, -INPUT_LIMIT, INPUT_LIMIT))
    relative = torch.from_numpy(np.stack([trial.errors for trial in trials]) / np.float32(config.tolerance))
    network = _train_network(x, relative, torch.from_numpy(np.stack([trial.costs for trial in trials])), config)
    layers = tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )
    standard = mean.astype(np.float32), std.astype(np.float32)
    return MlpRouter(layers, *standard, costs, config.cost_weight, config.temperature)


def _train_network(x, relative, costs, config: RouterConfig) -> torch.nn.Sequential:
    """``x (trials, features)``; errors over the tolerance and costs ``(trials, branches)``."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], config.hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(config.hidden, len(BRANCHES) - 1),
        )
    within = (relative <= 1).float()
    excess = (relative - 1).clamp(0, _EXCESS_LIMIT)
    weight = 1 + config.excess_weight * excess[:, :-1]
    oracle = torch.nn.functional.one_hot(within.argmax(dim=1), len(BRANCHES)).float().mean(dim=0)
    target = (1 - config.uniform_share) * oracle + config.uniform_share / len(BRANCHES)
    spent = config.cost_weight * costs + (1 - within) + config.excess_weight * excess
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        logits = network(x)
        sure = torch.ones(len(x), 1)
        worth = torch.cat([logits.sigmoid(), sure], dim=1) - config.cost_weight * costs
        softmax = (worth / config.temperature).softmax(dim=1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, within[:, :-1], weight)
        loss = loss + config.choice_weight * (softmax * spent).sum(dim=1).mean()
        loss = loss + config.balance_weight * ((softmax.mean(dim=0) - target) ** 2).sum()
        loss = loss + config.l2_weight * sum((values**2).sum() for values in network.parameters() if values.ndim > 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _report(trials: Sequence[Trial], chances: np.ndarray, config: RouterConfig) -> RouterReport:
    """``chances (trials, branches)`` of staying within the tolerance."""
    errors, costs = (np.stack([getattr(trial, name) for trial in trials]) for name in ("errors", "costs"))
    within, excess = errors <= config.tolerance, np.clip(errors / config.tolerance - 1, 0, None)
    every = np.arange(len(trials))
    chosen = (chances - config.cost_weight * costs).argmax(axis=1)
    by_rules = np.argmax([FixedRules().probabilities(trial.features) for trial in trials], axis=1)
    labels = within.argmax(axis=1)  # the cheapest within the tolerance: ordered by cost, and the last has no error
    shallow, sparse = BRANCHES.index("shallow"), BRANCHES.index("sparse")
    without_shallow = np.where(labels == shallow, np.where(within[:, sparse], sparse, len(BRANCHES) - 1), labels)
    rules_cost = float(costs[every, by_rules].mean())
    return RouterReport(
        trials=len(trials),
        tolerance=config.tolerance,
        agreement=float((labels == chosen).mean()),
        within_tolerance=float(within[every, chosen].mean()),
        at_rules_cost=float(within[every, _choices_of_cost(chances, costs, rules_cost)].mean()),
        rules_within_tolerance=float(within[every, by_rules].mean()),
        sparse_within_tolerance=float(within[:, sparse].mean()),
        shallow_within_tolerance=float(within[:, shallow].mean()),
        reuse_within_tolerance=float(within[:, 0].mean()),
        excess=float(excess[every, chosen].mean()),
        rules_excess=float(excess[every, by_rules].mean()),
        cost=float(costs[every, chosen].mean()),
        rules_cost=rules_cost,
        sparse_cost=float(costs[:, sparse].mean()),
        oracle_cost=float(costs[every, labels].mean()),
        oracle_cost_without_shallow=float(costs[every, without_shallow].mean()),
        branch_share=_shares(chosen),
        label_share=_shares(labels),
    )


def _choices_of_cost(chances: np.ndarray, costs: np.ndarray, most: float) -> np.ndarray:
    """The branches chosen with the smallest cost weight at which they cost no more than ``most`` on average."""
    every = np.arange(len(chances))
    for weight in np.linspace(0.0, 2.0, 401):
        chosen = (chances - weight * costs).argmax(axis=1)
        if costs[every, chosen].mean() <= most:
            return chosen
    return np.zeros(len(chances), int)


def _shares(indices: np.ndarray) -> dict[str, float]:
    return {branch: round(float((indices == index).mean()), 4) for index, branch in enumerate(BRANCHES)}
