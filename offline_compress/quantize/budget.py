# SPDX-License-Identifier: Apache-2.0
"""A plan under a byte budget: every matrix gets the format that lowers the expected loss most for its bytes."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from custom_ops.packing import Groups
from custom_ops.spec import WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.export.bundle_writer import ExportOptions, graph_bytes
from offline_compress.export.module_names import (
    EMBED_TOKENS,
    HEAD,
    PATCH_EMBEDDING,
    layer_count,
    linear_names,
    text_block_names,
    vision_block_names,
)
from offline_compress.export.weights import LinearWeights, ModelWeights, StoredFloat
from offline_compress.quantize.formats import Method, method_named, stored_bytes
from offline_compress.quantize.plan import Plan, Rule

OPERATOR_BYTES = 1200  # of the graphs' description and of alignment, a matrix, where it need not be exact
LONGEST_NAME = "x" * 80  # of a model: it stands in the graphs

# What the model is expected to lose with one matrix alone in one format, nats a caption: losses[matrix][method].
Losses = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Choice:
    """A format for some matrices that one operator fuses: bytes and expected loss of them all."""

    method: str
    bytes: int
    loss: float


@dataclass(frozen=True)
class FusedMatrices:
    """Matrices that must have one format, and what they may have, cheapest first."""

    names: tuple[str, ...]
    choices: tuple[Choice, ...]

    def hull(self) -> tuple[Choice, ...]:
        """The choices on the lower convex hull: each step to the next buys less for its bytes than the one before."""
        kept: list[Choice] = []
        for choice in sorted(self.choices, key=lambda c: (c.bytes, c.loss)):
            if kept and choice.loss >= kept[-1].loss:
                continue
            while len(kept) > 1 and gain(kept[-2], choice) >= gain(kept[-2], kept[-1]):
                kept.pop()
            kept.append(choice)
        return tuple(kept)


def check_budget(weights: ModelWeights, methods: Sequence[str], budget: int, dense_ternary: bool = False) -> None:
    """Before formats are measured. Raises QuantizeError as `plan_under_budget`, where even the smallest of ``methods``
    do not fit."""
    alike = dict.fromkeys(methods, 0.0)
    plan_under_budget(weights, dict.fromkeys(weights.linears, alike), budget, dense_ternary)


def gain(cheap: Choice, better: Choice) -> float:
    """Loss saved a byte."""
    return (cheap.loss - better.loss) / max(1, better.bytes - cheap.bytes)


def plan_under_budget(weights: ModelWeights, losses: Losses, budget: int, dense_ternary: bool = False) -> Plan:
    """A rule for each operator. ``budget``: bytes of both graphs, ternary matrices at 1.6 bits a weight where
    ``dense_ternary``, else at 2.

    Raises QuantizeError where even the smallest formats do not fit, saying what they take.
    """
    groups = fused_matrices(weights, losses, dense_ternary)
    hulls = [group.hull() for group in groups]
    smallest = plan_of(weights, groups, [hull[0] for hull in hulls])
    beside = planned_bytes(weights, smallest, dense_ternary) - sum(hull[0].bytes for hull in hulls)
    margin = 0  # what stands beside the matrices depends on their formats, by a few bytes
    while (chosen := spend(hulls, budget - beside - margin)) is not None:
        plan = plan_of(weights, groups, chosen)
        excess = planned_bytes(weights, plan, dense_ternary) - budget
        if excess <= 0:
            return plan
        margin = 2 * margin + excess
    least = planned_bytes(weights, smallest, dense_ternary)
    if least <= budget:
        return smallest
    raise QuantizeError(
        f"a budget of {budget / 1e6:.2f} MB; the smallest plan takes {least / 1e6:.2f} MB",
        f"give --budget-mb {1.01 * least / 1e6:.2f} or more",
    )


def plan_of(weights: ModelWeights, groups: Sequence[FusedMatrices], chosen: Sequence[Choice]) -> Plan:
    rules = [kept_rule(name) for name in kept_names(weights)]
    for group, choice in zip(groups, chosen, strict=True):
        pattern = "|".join(re.escape(name) for name in group.names)
        rules.append(Rule(pattern, choice.method, "chosen by sensitivity under the budget"))
    return Plan("auto", tuple(rules))


def budget_of_bits(weights: ModelWeights, bits: float) -> int:
    """Bytes of both graphs where the matrices that a plan chooses for have so many bits a weight, scales included."""
    names = [name for names in operator_names(weights.config) for name in names]
    names += [] if weights.tied else [HEAD]
    count = sum(weights.linears[name].out_features * weights.linears[name].in_features for name in names)
    return fixed_bytes(weights, names) + round(count * bits / 8)


def spend(hulls: Sequence[tuple[Choice, ...]], budget: int) -> list[Choice] | None:
    """Greedy along the hulls, best gain a byte first; None where the cheapest choices exceed the budget.

    A knapsack's greedy solution on convex hulls is off from the best by less than one step of one group.
    """
    level = [0] * len(hulls)
    left = budget - sum(hull[0].bytes for hull in hulls)
    if left < 0:
        return None
    steps = [(-gain(*hull[:2]), index) for index, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, index = heapq.heappop(steps)
        hull, now = hulls[index], level[index]
        cost = hull[now + 1].bytes - hull[now].bytes
        if cost > left:
            continue  # others may still fit
        left -= cost
        level[index] = now + 1
        if now + 2 < len(hull):
            heapq.heappush(steps, (-gain(hull[now + 1], hull[now + 2]), index))
    return [hull[at] for hull, at in zip(hulls, level, strict=True)]


def fused_matrices(weights: ModelWeights, losses: Losses, dense_ternary: bool) -> list[FusedMatrices]:
    """What export stacks into one operator has one format."""
    groups = []
    for names in operator_names(weights.config):
        missing = [name for name in names if name not in losses]
        if missing:
            raise QuantizeError(f"{missing[0]}: its formats were not measured", "measure this model")
        methods = set.intersection(*(set(losses[name]) for name in names))
        choices = tuple(
            Choice(m, sum(matrix_bytes(weights, n, m, dense_ternary) for n in names), sum(losses[n][m] for n in names))
            for m in sorted(methods)
        )
        groups.append(FusedMatrices(tuple(names), choices))
    if not weights.tied:
        choices = tuple(
            Choice(m, matrix_bytes(weights, HEAD, m, dense_ternary), loss) for m, loss in losses[HEAD].items()
        )
        groups.append(FusedMatrices((HEAD,), choices))
    return groups


def operator_names(config: dict) -> Iterable[list[str]]:
    for layer in range(layer_count(config, "vision_config")):
        q, k, v, out, fc1, fc2 = vision_block_names(layer)
        yield from ([q, k, v], [out], [fc1], [fc2])
    connector = next(name for name in linear_names(config) if "connector" in name)
    yield [connector]
    for layer in range(layer_count(config, "text_config")):
        q, k, v, o, gate, up, down = text_block_names(layer)
        yield from ([q, k, v], [o], [gate, up], [down])


def kept_names(weights: ModelWeights) -> list[str]:
    return [PATCH_EMBEDDING, *([HEAD] if weights.tied else [EMBED_TOKENS])]


def kept_rule(name: str) -> Rule:
    why = "reads raw pixels; few bytes" if name == PATCH_EMBEDDING else "a table of token vectors is int8 or float"
    return Rule(re.escape(name), "int8", why)


def matrix_bytes(weights: ModelWeights, name: str, method_name: str, dense_ternary: bool = False) -> int:
    matrix, method = weights.linears[name], method_named(method_name)
    shape = (matrix.out_features, matrix.in_features, matrix.bias is not None)
    dense = dense_ternary and method.format == WeightFormat.TERNARY
    stored = WeightFormat.TERNARY_DENSE if dense else method.format
    return stored_bytes(stored, *shape, method.group, not method.symmetric)


def planned_bytes(weights: ModelWeights, plan: Plan, dense_ternary: bool = False) -> int:
    """Of both graphs under the plan, to a few bytes of the name."""
    lines = plan.resolve(linear_names(weights.config, weights.tied))
    empty = {line.name: placeholder(weights.linears[line.name], line.method) for line in lines}
    return graph_bytes(weights.with_linears(empty), ExportOptions("mixed", LONGEST_NAME, dense_ternary=dense_ternary))


def placeholder(matrix: LinearWeights | StoredFloat, method: Method) -> LinearWeights | StoredFloat:
    """A matrix of zeros in a format: it takes the room of the real one."""
    if method.quantise is None:
        return matrix
    shape = (matrix.out_features, matrix.in_features)
    groups = None
    if method.group is not None:
        count = (shape[0], -(-shape[1] // method.group))
        groups = Groups(
            method.group, np.zeros(count, np.float16), None if method.symmetric else np.zeros(count, np.int8)
        )
    return LinearWeights(method.format, np.zeros(shape, np.int8), np.zeros(shape[0], np.float32), matrix.bias, groups)


def fixed_bytes(weights: ModelWeights, planned: Sequence[str]) -> int:
    """What no plan changes, nearly: norms, positions, the kept tables, the graphs' description."""
    kept = sum(matrix_bytes(weights, name, "int8") for name in kept_names(weights))
    return sum(value.nbytes for value in weights.tensors.values()) + kept + OPERATOR_BYTES * len(planned)
