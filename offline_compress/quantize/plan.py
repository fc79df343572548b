# SPDX-License-Identifier: Apache-2.0
"""Which matrix gets which method: ordered rules, resolved against a model into an explicit table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import (
    CONNECTOR,
    EMBED_TOKENS,
    HEAD,
    PATCH_EMBEDDING,
    TEXT,
    VISION,
    layer_count,
)
from offline_compress.quantize.formats import Method, method_named

VARIANTS = {  # of a bundle: method of most matrices
    "original": "float32", "ternary": "ternary", "binary": "binary", "int8": "int8",
    "int4": "int4-g64", "int3": "int3-g64", "int2": "int2-g64", "mixed": "int8",
}  # fmt: skip
SOLVERS = ("rtn", "gptq", "descent", "gptaq", "awq")  # of the blocks of a plan
LOW_BIT = ("ternary", "ternary-absmean", "ternary-twn", "binary")


@dataclass(frozen=True)
class Rule:
    """``pattern`` must match a module's whole name; ``why`` is shown in the table and kept in report.json."""

    pattern: str
    method: str
    why: str = ""

    def matches(self, name: str) -> bool:
        return re.fullmatch(self.pattern, name) is not None


@dataclass(frozen=True)
class PlannedMatrix:
    """One line of a resolved plan."""

    name: str
    method: Method
    why: str


@dataclass(frozen=True)
class Plan:
    """Ordered rules; the first that matches a module decides. ``exclusive``: no two may match the same, but for a last
    rule ``.*``, which takes what is left."""

    name: str
    rules: tuple[Rule, ...]
    exclusive: bool = False

    def resolve(self, names: Iterable[str]) -> tuple[PlannedMatrix, ...]:
        """The table, in the order of ``names`` (module names of every matrix of the model).

        Raises QuantizeError for a rule that decides nothing, a module without a rule, an unknown method or a
        malformed pattern, naming it.
        """
        for rule in self.rules:
            check_rule(rule)
        table, used = [], set()
        for name in names:
            matching = [i for i, rule in enumerate(self.rules) if rule.matches(name)]
            if not matching:
                raise QuantizeError(f"plan {self.name}: no rule for {name}", "add a rule that matches this module")
            if self.exclusive:
                self.refuse_overlap(name, matching)
            index = matching[0]
            used.add(index)
            rule = self.rules[index]
            table.append(PlannedMatrix(name, method_named(rule.method), rule.why))
        for index, rule in enumerate(self.rules):
            if index not in used:
                self.refuse_idle(rule, [line.name for line in table])
        return tuple(table)

    def refuse_overlap(self, name: str, matching: list[int]) -> None:
        patterns = [self.rules[i].pattern for i in matching if self.rules[i].pattern != ".*"]
        if len(patterns) > 1:
            raise QuantizeError(
                f"plan {self.name}: rules {patterns[0]!r} and {patterns[1]!r} overlap: both match {name}",
                "narrow one of them",
            )

    def refuse_idle(self, rule: Rule, names: list[str]) -> None:
        hidden = [name for name in names if rule.matches(name)]
        if hidden:
            raise QuantizeError(
                f"plan {self.name}: earlier rules leave nothing to {rule.pattern!r} (it matches {hidden[0]})",
                "put this rule before the more general one, or remove it",
            )
        raise QuantizeError(f"plan {self.name}: rule {rule.pattern!r} matches no module", f"names are like {names[0]}")

    def to_json(self) -> dict:
        return {"name": self.name, "rules": [asdict(rule) for rule in self.rules]}


def check_rule(rule: Rule) -> None:
    method_named(rule.method)
    try:
        re.compile(rule.pattern)
    except re.error as error:
        raise QuantizeError(f"plan: {rule.pattern!r} is no regular expression ({error})") from error


def default_plan(config: dict, method: str, tied: bool = True) -> Plan:
    """Every matrix of both halves ``method`` (ternary, binary, ...), but for those that int8 keeps exact enough.

    ``config`` is the Hugging Face config.json. ``float32`` leaves the whole model as it is. Norms, biases and
    the position embedding are no matrices of a plan: they stay float.
    """
    if method_named(method).bits >= 8:
        return Plan(method, (Rule(".*", method, "all of the model"),))
    if method not in LOW_BIT:
        kept = [PATCH_EMBEDDING, CONNECTOR, HEAD, *([] if tied else [EMBED_TOKENS])]
        rules = [Rule(re.escape(name), "int8", "few bytes, or a table of token vectors") for name in kept]
        return Plan(method, (*rules, Rule(r".*\.layers\..*", method, "all blocks")))
    kept = [Rule(re.escape(PATCH_EMBEDDING), "int8", "reads raw pixels; few bytes")]
    for half, part in ((f"{VISION}.encoder", "vision_config"), (TEXT, "text_config")):
        kept += edge_block_rules(half, layer_count(config, part))
    kept.append(Rule(re.escape(CONNECTOR), "int8", "the only path from image to text; few bytes"))
    if not tied:
        kept.append(Rule(re.escape(EMBED_TOKENS), "int8", "a table of token vectors, not a product"))
    kept.append(Rule(re.escape(HEAD), "int8", "logits are read off it; tied to the embeddings" if tied else "logits"))
    inner = []
    for half, part, short in ((f"{VISION}.encoder", "vision_config", "vision"), (TEXT, "text_config", "text")):
        if layer_count(config, part) > 2:
            inner.append(Rule(rf"{re.escape(half)}\.layers\.\d+\..*", method, f"inner {short} block"))
    return Plan(method, (*kept, *inner))


def edge_block_rules(half: str, layers: int) -> list[Rule]:
    """int8 for the first and the last block of one half (paper T keeps them too)."""
    first = Rule(rf"{re.escape(half)}\.layers\.0\..*", "int8", "first block: its errors reach all others")
    last = Rule(rf"{re.escape(half)}\.layers\.{layers - 1}\..*", "int8", "last block: nothing after it can correct it")
    return [first] if layers == 1 else [first, last]
