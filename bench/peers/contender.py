# SPDX-License-Identifier: Apache-2.0
"""A contender's process: it loads, says so, and does its work once for every line it reads.

Both directions are JSON, one object a line. The parent asks one contender after the other, round by round, so that a
neighbour on the machine meets all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_vlm.errors import EdgeVlmError

ROOT = Path(__file__).resolve().parents[2]


def serve(ready: dict, work: Callable[[], dict]) -> None:
    """Say ``ready``, then answer every line with what ``work`` returns, until the input ends."""
    serve_requests(ready, lambda _: work())


def serve_requests(ready: dict, work: Callable[[str], dict]) -> None:
    """The same for work that depends on what the line says."""
    channel, sys.stdout = sys.stdout, sys.stderr  # what libraries print does not mix in
    print(json.dumps(ready), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps(work(line.strip())), file=channel, flush=True)


class Contender:
    """``module`` of this package with ``arguments``, run by ``python``. ``why`` says why it does not run, if so."""

    def __init__(self, name: str, module: str, *arguments: object, threads: int, python: str = sys.executable) -> None:
        self.name, self.threads, self.why, self.found = name, threads, "", []
        limits = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
        command = [python, "-m", f"bench.peers.{module}", *map(str, arguments), "--threads", str(threads)]
        self.errors = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env={**os.environ, **limits}, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip
        self.ready = self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=60)
            self.errors.seek(0)
            self.why = (self.errors.read().strip().splitlines() or ["it ended"])[-1][:160]
        return json.loads(line) if line else {}

    def measure(self, request: str = "") -> None:
        """Once more; the answer is kept in ``found``."""
        if not self.why:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            answer = self.answer()
            self.found += [answer] if answer else []

    def best(self, figure: str) -> float:
        """The least of a figure over all rounds: neighbours only ever add to it. NaN where it never ran."""
        return min((one[figure] for one in self.found), default=float("nan"))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.errors.close()


def require(holds: bool, what: str, remedy: str) -> None:
    if not holds:
        raise EdgeVlmError(f"bench-model: {what}", remedy)
