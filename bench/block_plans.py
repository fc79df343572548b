# SPDX-License-Identifier: Apache-2.0
"""Plans that are compared: one method for the inner blocks of both halves, or for all of their blocks. Patch embedding,
connector and head are int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from offline_compress.export.module_names import is_tied
from offline_compress.models.families import open_checkpoint
from offline_compress.quantize.plan import Plan, default_plan


def inner_blocks(folder: Path, method: str) -> Plan:
    """The default plan of a ternary bundle, with another method where that has ternary; the first and the last block of
    each half are int8."""
    return with_method(folder, "ternary", method)


def all_blocks(folder: Path, method: str) -> Plan:
    """The default plan of an INT4 bundle, with another method where that has INT4."""
    return with_method(folder, "int4-g128", method)


def with_method(folder: Path, default: str, method: str) -> Plan:
    """The plan that ``default`` has for the Hugging Face folder, with ``method`` in its place."""
    checkpoint = open_checkpoint(folder)
    plan = default_plan(checkpoint.config, default, is_tied(checkpoint.config, checkpoint))
    rules = (replace(rule, method=method) if rule.method == default else rule for rule in plan.rules)
    return Plan(method, tuple(rules))


PLANS = {"inner": inner_blocks, "all": all_blocks}
