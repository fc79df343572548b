# SPDX-License-Identifier: Apache-2.0
"""Which branch of the encoder to run: a small learned network (paper S, adaptive neural compression), or fixed rules.

The rules around the network are ours: they decide what must not be learned, see ``RoutePolicy``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from custom_ops.router_network import RouterNetwork, load_router_network
from edge_vlm.anc.features import SceneFeatures
from edge_vlm.anc.hysteresis import BranchHysteresis, HysteresisConfig
from edge_vlm.errors import BundleError
from edge_vlm.sttf.gate import GateDecision

BRANCHES = ("reuse", "shallow", "sparse", "full")  # by cost, cheapest first
ROUTER_VERSION = 2
INPUT_LIMIT = 4.0  # standard deviations: what was never seen in training is taken as rare, not as absurd


class Router(Protocol):
    """Probabilities of the branches, four numbers in the order of ``BRANCHES``. No arrays: so few numbers cost NumPy's
    calls, not their arithmetic."""

    name: str

    def probabilities(self, features: SceneFeatures) -> Sequence[float]: ...


@dataclass(frozen=True)
class FixedRules:
    """Where a bundle has no router: a weak change of the same content (light, noise) is worth the first blocks only;
    where much appears or leaves at once, the context of everything else changes too."""

    weak_change: float = float(np.log1p(4.0))
    full_fraction: float = 0.5
    fresh_fraction: float = 0.08
    name: str = "rules"

    def probabilities(self, features: SceneFeatures) -> list[float]:
        if features.active_fraction > self.full_fraction or features.fresh_fraction > self.fresh_fraction:
            return [0.0, 0.0, 0.0, 1.0]
        if features.max_change < self.weak_change:
            return [0.0, 1.0, 0.0, 0.0]
        return [0.0, 0.0, 1.0, 0.0]


@dataclass(frozen=True)
class MlpRouter:
    """How likely each branch stays within the tolerance, weighed against what it costs.

    Standardised features -> hidden layers with ReLU -> one logistic output per branch but ``full``, which has no
    error. A branch is worth its probability less ``cost_weight`` times its cost as a part of a whole encode, which is
    known and need not be learned; the softmax of that over ``temperature`` chooses.

    layers: ``(weight (out, in), bias (out,))`` float32 each. mean, std: ``(features,)``. costs: of a branch,
    ``(fixed, per active fraction)`` ``(4, 2)``. network: the operator library's run of all that, see `in_library`.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    mean: np.ndarray
    std: np.ndarray
    costs: np.ndarray
    cost_weight: float = 0.5
    temperature: float = 0.1
    hysteresis: HysteresisConfig = field(default_factory=HysteresisConfig)
    name: str = "router"
    network: RouterNetwork | None = None

    def in_library(self) -> MlpRouter:
        """The same router, run by the operator library where there is one."""
        return replace(
            self,
            network=load_router_network(
                self.layers, self.mean, self.std, self.costs, self.cost_weight, self.temperature
            ),
        )

    def probabilities(self, features: SceneFeatures) -> list[float]:
        if self.network is not None:
            return self.network.run(features)
        costs = self.branch_costs(features.active_fraction)
        chances = self.within_tolerance(features)
        worth = [chance - self.cost_weight * cost for chance, cost in zip(chances, costs, strict=True)]
        best = max(worth)
        exponent = [math.exp((value - best) / self.temperature) for value in worth]
        total = sum(exponent)
        return [value / total for value in exponent]

    def within_tolerance(self, features: SceneFeatures) -> list[float]:
        """Probability of each branch that its features stay within the tolerance, of ``BRANCHES``."""
        x = np.minimum(np.maximum((features.vector() - self.mean) / self.std, -INPUT_LIMIT), INPUT_LIMIT)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(weight @ x + bias, 0.0)
        weight, bias = self.layers[-1]
        return [*map(_logistic, (weight @ x + bias).tolist()), 1.0]

    def branch_costs(self, active_fraction: float) -> list[float]:
        """Of each branch as a part of a whole encode."""
        return [fixed + share * active_fraction for fixed, share in self.costs.tolist()]

    def to_json(self) -> dict:
        return {
            "version": ROUTER_VERSION,
            "features": list(SceneFeatures._fields),
            "branches": list(BRANCHES),
            "mean": _rounded(self.mean),
            "std": _rounded(self.std),
            "layers": [{"weight": _rounded(weight), "bias": _rounded(bias)} for weight, bias in self.layers],
            "costs": _rounded(self.costs),
            "cost_weight": self.cost_weight,
            "temperature": self.temperature,
            "hysteresis": self.hysteresis.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict) -> MlpRouter:
        """Raises BundleError where the network does not fit this version's features and branches."""
        try:
            _require(values["version"] == ROUTER_VERSION, f"version {values['version']}")
            _require(tuple(values["features"]) == SceneFeatures._fields, f"features {values['features']}")
            _require(tuple(values["branches"]) == BRANCHES, f"branches {values['branches']}")
            layers = tuple(
                (np.array(layer["weight"], np.float32), np.array(layer["bias"], np.float32))
                for layer in values["layers"]
            )
            mean, std = np.array(values["mean"], np.float32), np.array(values["std"], np.float32)
            costs = np.array(values["costs"], np.float32)
            _check_shapes(layers, mean, std, costs)
            cost_weight, temperature = float(values["cost_weight"]), float(values["temperature"])
            _require(cost_weight >= 0 and temperature > 0, f"cost_weight {cost_weight}, temperature {temperature}")
            hysteresis = HysteresisConfig.from_json(values.get("hysteresis"))
            return cls(layers, mean, std, costs, cost_weight, temperature, hysteresis)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"the bundle's router does not fit this version: {error}", "edge-vlm-compress train-router BUNDLE"
            ) from error


def _check_shapes(layers, mean: np.ndarray, std: np.ndarray, costs: np.ndarray) -> None:
    """Raises ValueError that names what does not fit."""
    width = len(SceneFeatures._fields)
    _require(mean.shape == std.shape == (width,) and bool((std > 0).all()), "mean or std")
    for weight, bias in layers:
        _require(weight.ndim == 2 and weight.shape[1] == width and bias.shape == weight.shape[:1], "layer shapes")
        width = len(bias)
    _require(width == len(BRANCHES) - 1, "the last layer")
    _require(costs.shape == (len(BRANCHES), 2), "costs")
    arrays = [mean, costs, *(array for layer in layers for array in layer)]
    _require(all(np.isfinite(array).all() for array in arrays), "a number that is not finite")


def _logistic(x: float) -> float:
    """Safe from overflow; not a number stays one."""
    return 1.0 / (1.0 + math.exp(min(-x, 700.0)))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _rounded(array: np.ndarray) -> list:
    """Nested lists, short enough to read, that give back the same float32 to 7 digits."""
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    return [float(f"{value:.7g}") for value in array]


class Route(NamedTuple):
    """The branch of one frame and why."""

    branch: str
    reason: str


@dataclass
class RoutePolicy:
    """The router and the rules around it.

    Nothing wanted: reuse. First frame and keyframe: full. Tokens chosen for their depth: sparse. Changed tokens are
    put off (``reuse`` by the router) for ``max_skipped_frames`` frames in a row at most. ``override``: this branch
    wherever the rules leave a choice. Without a ``router`` changed tokens are computed at full depth (STTF alone);
    with ``whole_frames`` a branch computes all tokens or none (ANC alone).
    """

    router: Router | None = field(default_factory=FixedRules)
    override: str | None = None
    whole_frames: bool = False
    max_skipped_frames: int = 3
    hysteresis: BranchHysteresis = field(default_factory=lambda: BranchHysteresis(HysteresisConfig()))
    skipped_frames: int = 0

    def reset(self) -> None:
        self.hysteresis.reset()
        self.skipped_frames = 0

    def asks_router(self, decision: GateDecision, caches_valid: bool) -> bool:
        """Whether the rules leave a choice to the router, which then needs to see the scene's features."""
        ruled = not caches_valid or decision.keyframe or decision.deep_only or not decision.wants_tokens
        return not ruled and self.override is None and self.router is not None

    def choose(self, decision: GateDecision, features: SceneFeatures | None, caches_valid: bool) -> Route:
        """``features`` may be None where `asks_router` is false."""
        route = self._choose(decision, features, caches_valid)
        if self.whole_frames and route.branch == "sparse":
            route = Route("full", route.reason)
        put_off = route.branch == "reuse" and decision.wants_tokens
        self.skipped_frames = self.skipped_frames + 1 if put_off else 0
        return route

    def tokens(self, branch: str, decision: GateDecision) -> np.ndarray:
        """The tokens that a branch computes, bool ``(tokens,)``."""
        if branch == "reuse":
            return np.zeros(decision.active.shape, bool)
        if branch == "full" or self.whole_frames:
            return np.ones(decision.active.shape, bool)
        return decision.active

    def _choose(self, decision: GateDecision, features: SceneFeatures | None, caches_valid: bool) -> Route:
        if not caches_valid:
            return Route("full", decision.reason)
        if self.override is not None:
            reason = f"route:={self.override}"
            if self.override != "full" and not decision.wants_tokens:
                return Route("reuse", decision.reason)
            if self.override == "shallow" and (decision.keyframe or decision.deep_only):  # else they would ask for ever
                return Route("full" if decision.keyframe else "sparse", f"{decision.reason}, which takes all blocks")
            return Route(self.override, reason)
        if decision.keyframe:
            self.hysteresis.reset()  # a rule chose for one frame: no reason to hold on to it
            return Route("full", f"keyframe: {decision.reason}")
        if not decision.wants_tokens:
            return Route("reuse", decision.reason)
        if decision.deep_only or self.router is None:
            return Route("sparse", decision.reason)
        probabilities = self.router.probabilities(features)
        if not all(map(math.isfinite, probabilities)):
            return Route("full", f"{self.router.name} gave no number")
        branch, held = self.hysteresis.choose(probabilities, BRANCHES)
        chance = f"{self.router.name} {probabilities[BRANCHES.index(branch)]:.2f}"
        if branch == "reuse" and self.skipped_frames >= self.max_skipped_frames:
            return Route("sparse", f"{decision.reason}, put off for {self.skipped_frames} frames")
        return Route(branch, f"{decision.reason}, {chance}{', held' if held else ''}")
