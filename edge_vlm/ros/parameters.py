# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the captioner node, in one table: the node declares from it, the documentation is made from it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from custom_ops.spec import MOST_THREADS


@dataclass(frozen=True)
class Parameter:
    """One row. ``low`` and ``high`` bound numbers, ``choices`` words; ``read_only`` ones are fixed at start, those
    ``at_configure`` while the node is configured."""

    name: str
    default: Any
    description: str
    read_only: bool = False
    at_configure: bool = False
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

    @property
    def when(self) -> str:
        """When it can be set, in words."""
        return "at start" if self.read_only else "while unconfigured" if self.at_configure else "any time"


PARAMETERS = (
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager.", read_only=True),
    Parameter(
        "bundle",
        "",
        "Folder of the model bundle; empty: the demo bundle that is installed with the package.",
        at_configure=True,
    ),
    Parameter(
        "image_transport",
        "raw",
        "`raw` subscribes to `image`, `compressed` to `image/compressed`, `none` to neither: pictures are then"
        " drawn from the events.",
        at_configure=True,
        choices=("raw", "compressed", "none"),
    ),
    Parameter(
        "event_source",
        "auto",
        "Messages on `events`: `event_packet` (event_camera_msgs), `event_array` (dvs_msgs), `none`; `auto`: what is"
        " published there at activation, else the first of these that is installed.",
        at_configure=True,
        choices=("auto", "event_packet", "event_array", "none"),
    ),
    Parameter(
        "event_frame_rate_hz",
        20.0,
        "Pictures drawn from events per second, where `image_transport` is `none`.",
        at_configure=True,
        low=0.1,
        high=200.0,
    ),
    Parameter("prompt", "", "Question put to the model; empty: the bundle's own."),
    Parameter(
        "variant",
        "both",
        "`sttf` computes changed tokens alone, `anc` lets the router choose a branch for whole frames, `both` does"
        " both, `none` computes every frame whole.",
        choices=("both", "sttf", "anc", "none"),
    ),
    Parameter("reuse", True, "Reuse visual tokens of unchanged patches (STTF); false recomputes every frame."),
    Parameter(
        "route",
        "auto",
        "Encoder branch: `auto` lets the router choose; `full` computes every frame whole; `sparse` and `shallow` are"
        " taken wherever tokens are wanted, after the first frame.",
        choices=("auto", "full", "sparse", "shallow"),
    ),
    Parameter(
        "caption_max_age_s",
        10.0,
        "A caption older than this is decoded again; 0: never for its age.",
        low=0.0,
        high=86400.0,
    ),
    Parameter("stale_after_s", 2.0, "Without a frame for this long the diagnostics say STALE.", low=0.1, high=3600.0),
    Parameter(
        "publish_unchanged",
        True,
        "Publish the standing caption on `~/caption_stamped` for frames that did not need a new one.",
    ),
    Parameter(
        "energy",
        "auto",
        "Energy sensor: `auto` (RAPL, Jetson INA, Raspberry Pi 5), `battery` (these, then the battery gauge),"
        " `power_topic` (std_msgs/Float32 in watts on `power`), `battery_topic` (sensor_msgs/BatteryState on"
        " `battery_state`).",
        at_configure=True,
        choices=("auto", "battery", "power_topic", "battery_topic"),
    ),
    Parameter("threads", 1, "Threads of the inference engine.", at_configure=True, low=1, high=MOST_THREADS),
)

BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


_HEAD = """\
# Parameters of the captioner node

Made from the code by `python3 -m edge_vlm.ros.parameters > docs/parameters.md`; a test keeps it current.

Each is a launch argument of `captioner.launch.py` under the same name, can stand in a YAML file
(`params_file:=my.yaml`, whose values win over launch arguments) and is refused with a reason where the value is out of
range. "At start": read-only afterwards. "While unconfigured": `ros2 lifecycle set /captioner deactivate`, then
`cleanup`; set it; then `configure`, `activate`.

"""
_TAIL = """
The subscriptions of images and events also have
`qos_overrides.<topic>.subscription.{history,depth,reliability,durability}` (at start, in a parameters file or with
`-p`; no launch arguments). The topic is the one that is listened on after remapping:

    ros2 run edge_vlm captioner --ros-args -r image:=/camera/image_raw \\
        -p qos_overrides./camera/image_raw.subscription.reliability:=reliable
"""


def markdown() -> str:
    """docs/parameters.md."""
    rows = ["| parameter | default | range | set | meaning |", "|---|---|---|---|---|"]
    for p in PARAMETERS:
        span = ", ".join(p.choices) if p.choices else f"{p.low:g} .. {p.high:g}" if p.low is not None else ""
        rows.append(f"| `{p.name}` | `{json.dumps(p.default)}` | {span} | {p.when} | {p.description} |")
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


if __name__ == "__main__":
    sys.stdout.write(markdown())
