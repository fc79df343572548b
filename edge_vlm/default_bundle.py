# SPDX-License-Identifier: Apache-2.0
"""Where the models that come with the project lie: beside the sources, or where pip or colcon installed them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_vlm.errors import BundleError

BUNDLE = Path("bundles") / "demo"
EVENT_MODEL = Path("bundles") / "gestures"


def default_bundle_path() -> Path:
    """The demo bundle's folder.

    Raises:
        BundleError: it is in none of the places; names them.
    """
    return _shipped(BUNDLE, "bundle.json", "no demo bundle", "name a bundle with --bundle DIR")


def default_event_model_path() -> Path:
    """The folder of the event classifier of rendered gestures.

    Raises:
        BundleError: it is in none of the places; names them.
    """
    return _shipped(EVENT_MODEL, "event_model.json", "no event model", "name a model with --model DIR")


def _shipped(folder: Path, file: str, missing: str, remedy: str) -> Path:
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    places = [Path(__file__).resolve().parents[1] / folder]
    places += [prefix / "share" / "edge_vlm" / folder for prefix in (*prefixes, Path(sys.prefix))]
    for place in places:
        if (place / file).is_file():
            return place
    raise BundleError(f"{missing}; looked in " + ", ".join(str(place) for place in places), remedy)
