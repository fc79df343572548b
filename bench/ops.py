# SPDX-License-Identifier: Apache-2.0
"""The linear kernels beside the machine's limits, and single matrices beside other runtimes. One thread.

``python -m bench.ops``, or `make bench-ops`; op_limits.py and op_peers.py measure the two parts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import op_limits, op_peers
from bench.picture import draw_rows
from bench.rows import Row, rows_table, write_rows
from custom_ops.library import library_info
from edge_vlm.errors import EdgeVlmError
from offline_compress.train.progress import counted, open_console

LIMITS, PEERS = "limits", "peers"


def limit_rows(rounds: int, folder: Path, console: Console) -> list[Row]:
    """The kernels of every instruction set of this CPU but the scalar one."""
    rows, wanted = [], list(op_limits.cases())
    isas = [isa for isa in library_info().available_isas if isa != "scalar"]
    program = op_limits.compile_program(folder)
    with counted("cases", len(isas) * len(wanted), console) as progress:
        for number, (isa, case) in enumerate((isa, case) for isa in isas for case in wanted):
            rows += op_limits.rows_of(isa, case, op_limits.measure(program, isa, case, rounds))
            progress(number + 1)
    return rows


def peer_rows(rounds: int, folder: Path, console: Console) -> list[Row]:
    with counted("matrices", len(op_peers.MATRICES), console) as progress:
        return op_peers.peer_rows(op_peers.measure(op_peers.MATRICES, rounds, folder, progress))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-ops", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=(LIMITS, PEERS), help="only this one (default: both)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=41,
        help="of each case, small ones more; lower quartiles are shown (default: %(default)s)",
    )
    parser.add_argument("--peer-rounds", type=int, default=9, help="the least is shown (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench/ops.json"), help="default: %(default)s")
    args = parser.parse_args()
    console, rows, pictures = open_console(), [], {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            if args.part != PEERS:
                pictures[LIMITS] = limit_rows(args.rounds, Path(folder), console)
            if args.part != LIMITS:
                pictures[PEERS] = peer_rows(args.peer_rounds, Path(folder), console)
        rows = [row for part in pictures.values() for row in part]
        write_rows(args.out, rows)
        titles = {LIMITS: "shares of the machine's limits", PEERS: "times faster than other runtimes"}
        for part, found in pictures.items():
            name = args.out.with_suffix(".png") if part == LIMITS else args.out.with_name(f"{args.out.stem}_peers.png")
            draw_rows(name, f"Linear kernels, one thread: {titles[part]}", found)
    except EdgeVlmError as error:
        print(error, file=sys.stderr)
        return 1
    console.print(rows_table("linear kernels, one thread", rows))
    console.print(f"written to {args.out}, with a picture of each part beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
