# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the captioner node, in one table: the node declares from it, the documentation is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One row. ``low`` and ``high`` bound numbers, ``choices`` words; ``read_only`` ones are fixed at start."""

    name: str
    default: Any
    description: str
    read_only: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def problem(self, value: Any) -> str:
        """Why ``value`` will not do, or an empty string."""
        if type(value) is not type(self.default):
            return f"{self.name} must be a {type(self.default).__name__}, not {type(value).__name__}"
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {', '.join(self.choices)}; got {value!r}"
        if self.low is not None and not self.low <= value <= self.high:
            return f"{self.name} must lie in {self.low:g} .. {self.high:g}; got {value!r}"
        return ""


PARAMETERS = (
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager.", read_only=True),
    Parameter("bundle", "", "Folder of the model bundle; empty: the demo bundle that is installed with the package."),
    Parameter(
        "image_transport",
        "raw",
        "raw subscribes to `image`, compressed to `image/compressed`.",
        choices=("raw", "compressed"),
    ),
    Parameter(
        "event_source",
        "auto",
        "Messages on `events`: event_packet, event_array (dvs_msgs), none; auto: the first of these that is installed.",
        choices=("auto", "event_packet", "event_array", "none"),
    ),
    Parameter("prompt", "", "Question put to the model; empty: the bundle's own."),
    Parameter("reuse", True, "Reuse visual tokens of unchanged patches (STTF); false recomputes every frame."),
    Parameter(
        "route",
        "auto",
        "Encoder branch: auto lets the router choose, else one of the branches for every frame.",
        choices=("auto", "full", "sparse", "shallow"),
    ),
    Parameter("caption_max_age_s", 10.0, "A caption older than this is decoded again.", low=0.0, high=86400.0),
    Parameter("stale_after_s", 2.0, "Without a frame for this long the diagnostics say STALE.", low=0.1, high=3600.0),
    Parameter("publish_unchanged", True, "Publish the standing caption for frames that did not need a new one."),
    Parameter("threads", 1, "Threads of the inference engine.", read_only=True, low=1, high=64),
)

BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def markdown_table() -> str:
    """The table as it stands in docs/parameters.md."""
    rows = ["| parameter | default | range | meaning |", "|---|---|---|---|"]
    for p in PARAMETERS:
        span = ", ".join(p.choices) if p.choices else f"{p.low:g} .. {p.high:g}" if p.low is not None else ""
        note = " Read-only." if p.read_only else ""
        rows.append(f"| `{p.name}` | `{p.default!r}` | {span} | {p.description}{note} |")
    return "\n".join(rows) + "\n"
