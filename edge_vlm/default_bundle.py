# SPDX-License-Identifier: Apache-2.0
"""Where the demo bundle lies: beside the sources, or where pip or colcon installed it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_vlm.errors import BundleError

BUNDLE = Path("bundles") / "demo"


def default_bundle_path() -> Path:
    """The demo bundle's folder.

    Raises:
        BundleError: it is in none of the places; names them.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    places = [Path(__file__).resolve().parents[1] / BUNDLE]
    places += [prefix / "share" / "edge_vlm" / BUNDLE for prefix in (*prefixes, Path(sys.prefix))]
    for place in places:
        if (place / "bundle.json").is_file():
            return place
    raise BundleError(
        "no demo bundle; looked in " + ", ".join(str(place) for place in places), "name a bundle with --bundle DIR"
    )
