# SPDX-License-Identifier: Apache-2.0
"""One finding, and the guard that turns a failing check into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_vlm.errors import EdgeVlmError

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True)
class Check:
    """``detail`` says what was found; ``remedy`` what to do, empty where nothing is to be done."""

    name: str
    status: str
    detail: str
    remedy: str = ""

    def line(self) -> str:
        """As printed: one line, and the remedy below."""
        below = f"\n{'':<24}remedy: {self.remedy}" if self.remedy else ""
        return f"{self.status:<5} {self.name:<17} {self.detail}{below}"


def guarded(name: str, subject: Callable[[], list[Check]]) -> list[Check]:
    """The findings of ``subject``; whatever it raises is a finding too, so that the others still come."""
    try:
        return subject()
    except EdgeVlmError as error:
        return [Check(name, FAIL, error.what, error.remedy)]
    except ModuleNotFoundError as error:
        return [Check(name, FAIL, f"Python package {error.name} is missing", "see the packages above")]
    except Exception as error:  # noqa: BLE001 - a doctor that dies of what it looks at is of no use
        return [Check(name, FAIL, f"{type(error).__name__}: {error}", "report this with the whole output")]
