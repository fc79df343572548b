# SPDX-License-Identifier: Apache-2.0
"""The demo's figures beside their goals: captions and bytes, reuse on the sample recording, a newcomer's wait.

``python -m bench.demo``, or `make bench-demo`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.fresh_clone_rows import fresh_clone_rows
from bench.heldout_rows import heldout_rows
from bench.rows import rows_table, write_rows
from bench.sample_bag_rows import sample_bag_rows
from bench.twin_rows import twin_rows
from edge_vlm.errors import EdgeVlmError
from offline_compress.evaluate.heldout import heldout_samples
from offline_compress.train.progress import open_console

TWIN_SCENES = 100


def main() -> int:
    """Exit status 0 where all figures were measured, whether their goals hold or not; 1 for an error."""
    parser = argparse.ArgumentParser(prog="bench-demo", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--bag", type=Path, default=Path("bags/sample.mcap"), help="default: %(default)s")
    parser.add_argument(
        "--models", type=Path, default=Path("out/models"), help="what make models trained (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=600, help="held-out scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench/demo.json"), help="default: %(default)s")
    args = parser.parse_args()
    console = open_console()
    try:
        samples = heldout_samples(args.scenes)
        rows = heldout_rows(args.bundle, args.models, samples, console)
        rows += twin_rows(args.models, samples[:TWIN_SCENES])
        rows += sample_bag_rows(args.bag, args.bundle)
        rows += fresh_clone_rows()
        write_rows(args.out, rows)
    except EdgeVlmError as error:
        print(f"bench-demo: {error}", file=sys.stderr)
        return 1
    console.print(rows_table("demo", rows))
    console.print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
