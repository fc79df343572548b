# SPDX-License-Identifier: Apache-2.0
"""Which tokens to compute in this frame: small policies that each answer one question, and the gate that asks them.

After paper S (event-driven token reuse, 196 -> 31 tokens on average); hysteresis, age limit, dilation, budget and
settling are ours. A patch is compared with itself at its last refresh, never with the previous frame or an average:
slow drift adds up and is seen, and what has left is recomputed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from edge_vlm.sttf.config import SttfConfig
from edge_vlm.sttf.token_state import TokenState

_FRAMES_WORTH_WAITING = 2


@dataclass(frozen=True)
class HysteresisThreshold:
    """Changed: over ``on``, or over ``off`` where it was changed in the frame before."""

    on: float
    off: float

    def changed(self, scores: np.ndarray, was_active: np.ndarray) -> np.ndarray:
        return scores >= np.where(was_active, np.float32(self.off), np.float32(self.on))


@dataclass(frozen=True)
class AgeLimit:
    """Tokens older than ``max_age_s``, in batches: one forced token per frame would keep every frame busy."""

    max_age_s: float
    batch_tokens: int

    def expired(self, age_s: np.ndarray, encoding_anyway: bool) -> np.ndarray:
        old = age_s >= self.max_age_s
        oldest = np.count_nonzero(old)
        if oldest and not (encoding_anyway or oldest >= self.batch_tokens or age_s.max() >= 2 * self.max_age_s):
            return np.zeros_like(old)
        return old


@dataclass(frozen=True)
class Dilation:
    """The changed patches and their 4 or 8 neighbours: edges move into the patch next door."""

    neighbours: int

    def spread(self, changed: np.ndarray) -> np.ndarray:
        """bool ``(rows, cols) -> (rows, cols)``."""
        if self.neighbours == 0:
            return changed
        padded = np.pad(changed, 1)
        horizontal = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
        vertical = padded[:-2] | padded[1:-1] | padded[2:]
        if self.neighbours == 4:
            return horizontal[1:-1] | vertical[:, 1:-1]
        return horizontal[:-2] | horizontal[1:-1] | horizontal[2:]


@dataclass(frozen=True)
class Budget:
    """At most ``tokens`` of the wanted ones: the most changed first, and those that waited longest."""

    tokens: int

    def take(self, wanted: np.ndarray, scores: np.ndarray, due_frames: np.ndarray) -> np.ndarray:
        if self.tokens <= 0 or wanted.sum() <= self.tokens:
            return wanted
        # A neighbour that is wanted by dilation alone has a small score: the longer it waits, the more it weighs.
        urgency = np.where(wanted, (1.0 + np.minimum(scores, 1e6)) * (1.0 + due_frames), -1.0)
        taken = np.zeros_like(wanted)
        taken[np.argsort(-urgency, kind="stable")[: self.tokens]] = True
        return taken


@dataclass(frozen=True)
class Patience:
    """Changed tokens wait for company, ``max_wait_s`` at the longest; not where much is new at once, where many wait
    already, or where frames come so slowly that not even two fit into the wait."""

    max_wait_s: float
    fresh_fraction: float
    crowd_fraction: float

    def waits(self, changed: np.ndarray, waiting: np.ndarray, state: TokenState, stamp_ns: int) -> bool:
        """Whether the next frame, as far away as the last one, comes soon enough. ``waiting``: ``due_frames > 0``."""
        if state.stamp_ns is None or self.max_wait_s <= 0:
            return False
        interval_s = (stamp_ns - state.stamp_ns) * 1e-9
        if _FRAMES_WORTH_WAITING * interval_s > self.max_wait_s:
            return False
        if (int(np.maximum.reduce(state.due_frames)) + 1) * interval_s > self.max_wait_s:
            return False
        if np.count_nonzero(changed | waiting) >= self.crowd_fraction * changed.size:
            return False
        fresh = np.count_nonzero(changed > (state.was_active | waiting))  # and not
        return bool(fresh < self.fresh_fraction * changed.size)


@dataclass(frozen=True)
class ContextDebt:
    """Tokens whose context is out of date: what they attended to has changed since."""

    maximum: float

    def overdue(self, context_debt: np.ndarray) -> np.ndarray:
        return context_debt >= self.maximum

    def worst(self, context_debt: np.ndarray, count: int, wanted: np.ndarray) -> np.ndarray:
        """Of those that are not ``wanted`` anyway, the ``count`` with the largest debt. Masks bool ``(tokens,)``."""
        overdue = self.overdue(context_debt) > wanted  # and not
        if np.count_nonzero(overdue) <= count:
            return overdue
        chosen = np.zeros(context_debt.shape, bool)
        chosen[np.argsort(np.where(wanted, 0.0, -context_debt), kind="stable")[:count]] = True
        return chosen & overdue


class GateDecision(NamedTuple):
    """``active``: compute these tokens; ``changed``: those that changed; ``due``: wanted, but over the budget.

    ``keyframe``: compute everything. ``deep_only``: the tokens were chosen for refresh at full depth, a shallow
    pass would be of no use. ``reason`` says in a few words why. All masks bool ``(tokens,)``.
    """

    active: np.ndarray
    changed: np.ndarray
    due: np.ndarray
    keyframe: bool
    deep_only: bool
    reason: str

    @property
    def wants_tokens(self) -> bool:
        return bool(np.count_nonzero(self.active))


@dataclass(frozen=True)
class Gate:
    """The policies together; holds no state of its own."""

    config: SttfConfig

    @cached_property
    def threshold(self) -> HysteresisThreshold:
        return HysteresisThreshold(self.config.threshold_on, self.config.threshold_off)

    @cached_property
    def dilation(self) -> Dilation:
        return Dilation(self.config.dilation)

    @cached_property
    def budget(self) -> Budget:
        return Budget(self.config.budget_tokens)

    @cached_property
    def patience(self) -> Patience:
        return Patience(self.config.max_wait_s, self.config.fresh_fraction, self.config.crowd_fraction)

    @cached_property
    def context(self) -> ContextDebt:
        return ContextDebt(self.config.context_debt_max)

    def decide(self, scores: np.ndarray, state: TokenState, stamp_ns: int) -> GateDecision:
        config = self.config
        if not state.valid:
            return self._keyframe(np.ones(state.tokens, bool), "first frame")
        changed = self.threshold.changed(scores, state.was_active)
        count = np.count_nonzero(changed)
        if count > config.keyframe_fraction * state.tokens:
            return self._keyframe(changed, f"{100 * count / state.tokens:.0f} % of the patches changed")
        waiting = state.due_frames > 0
        if not count:
            return self._quiet(changed, waiting, state, stamp_ns)
        wanted = self._spread(changed, state) | waiting
        reason = f"{count} patches changed"
        if self.patience.waits(changed, waiting, state, stamp_ns):
            nothing = np.zeros(state.tokens, bool)
            return GateDecision(nothing, changed, wanted, False, False, f"{reason}, waiting for more")
        if self._some_expired(state, stamp_ns):
            wanted |= self._expired(state, stamp_ns, encoding_anyway=True)
        wanted |= self.context.worst(state.context_debt, math.ceil(config.context_share * count), wanted)
        active = self.budget.take(wanted, scores, state.due_frames)
        return GateDecision(active, changed, wanted ^ active, False, False, reason)

    def _spread(self, changed: np.ndarray, state: TokenState) -> np.ndarray:
        if not self.dilation.neighbours:
            return changed
        return self.dilation.spread(changed.reshape(state.grid)).reshape(-1)

    def _quiet(self, changed: np.ndarray, waiting: np.ndarray, state: TokenState, stamp_ns: int) -> GateDecision:
        """Nothing changed: time to put right what was left approximate."""
        config, wanted = self.config, waiting
        reason = "tokens left over" if np.count_nonzero(wanted) else ""
        if state.quiet_frames >= config.settle_frames:
            approximate = state.shallow | self.context.overdue(state.context_debt)
            wanted = wanted | approximate
            reason = reason or ("settling: depth and context" if np.count_nonzero(approximate) else "")
        if self._some_expired(state, stamp_ns):
            expired = self._expired(state, stamp_ns, encoding_anyway=bool(reason))
            wanted = wanted | expired
            reason = reason or ("tokens over the age limit" if expired.any() else "")
        if not reason:
            return GateDecision(wanted, changed, wanted, False, True, "nothing changed")
        if config.budget_tokens == 0 and np.count_nonzero(wanted) > config.keyframe_fraction * state.tokens:
            return self._keyframe(changed, reason)
        active = self.budget.take(wanted, state.age_s(stamp_ns), state.due_frames)
        return GateDecision(active, changed, wanted ^ active, False, True, reason)

    def _some_expired(self, state: TokenState, stamp_ns: int) -> bool:
        """In most frames not."""
        return (stamp_ns - int(np.minimum.reduce(state.deep_stamp_ns))) * 1e-9 >= self.config.max_age_s

    def _expired(self, state: TokenState, stamp_ns: int, encoding_anyway: bool) -> np.ndarray:
        batch = max(1, round(self.config.age_batch_fraction * state.tokens))
        return AgeLimit(self.config.max_age_s, batch).expired(state.age_s(stamp_ns), encoding_anyway)

    @staticmethod
    def _keyframe(changed: np.ndarray, reason: str) -> GateDecision:
        everything = np.ones_like(changed)
        return GateDecision(everything, changed, np.zeros_like(changed), True, False, reason)
