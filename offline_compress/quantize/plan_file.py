# SPDX-License-Identifier: Apache-2.0
"""A plan that a user wrote, as YAML::

default: ternary                      # method of every matrix that no rule names; optional
rules:
  - modules: lm_head|.*embed_tokens   # a regular expression that matches whole module names
    method: int8                      # see `edge-vlm-compress compress --help`
    why: tables of token vectors      # optional; shown in the table and kept in report.json
"""

from __future__ import annotations

from pathlib import Path

from edge_vlm.errors import InputError
from offline_compress.quantize.plan import Plan, Rule

EXAMPLE = "write `rules:` with `modules:` and `method:`, see docs/compress.md"


def read_plan(path: Path) -> Plan:
    """Raises InputError naming the file and what is wrong in it; overlaps and rules that match nothing are refused when
    the plan is resolved against a model."""
    import yaml

    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "name a plan file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})", EXAMPLE) from error
    return plan_of(value, str(path))


def plan_of(value: object, where: str) -> Plan:
    """From parsed YAML."""
    if not isinstance(value, dict) or set(value) - {"default", "rules"} or not value:
        raise InputError(f"{where}: a plan holds `rules` and `default`", EXAMPLE)
    rules = value.get("rules") or []
    if not isinstance(rules, list):
        raise InputError(f"{where}: rules is no list", EXAMPLE)
    made = [rule_of(rule, f"{where}: rule {number}") for number, rule in enumerate(rules, start=1)]
    if "default" in value:
        made.append(Rule(".*", str(value["default"]), "default"))
    return Plan(Path(where).stem, tuple(made), exclusive=True)


def rule_of(value: object, where: str) -> Rule:
    known = {"modules", "method", "why"}
    if not isinstance(value, dict) or set(value) - known or not {"modules", "method"} <= set(value):
        raise InputError(f"{where}: expected modules, method and perhaps why, got {value!r}", EXAMPLE)
    return Rule(*(str(value.get(key, "")) for key in ("modules", "method", "why")))
