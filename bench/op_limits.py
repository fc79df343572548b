# SPDX-License-Identifier: Apache-2.0
"""The linear kernels beside the machine's limits: memory read in a stream, and integer products in registers.

One thread. ops.cc measures limits and kernel in turns within one process; the limit of memory is the fastest of several
ways to read it.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.rows import Row
from custom_ops import build
from custom_ops.spec import WeightFormat
from edge_vlm.errors import EdgeVlmError

SOURCE = Path(__file__).with_name("ops.cc")
SMALL_WEIGHTS = 500_000
DECODE = ((576, 576), (1536, 576), (576, 1536), (2048, 2048), (8192, 2048), (8192, 3072))  # outputs, inputs
ENCODE = ((576, 1536, 64), (2048, 2048, 64), (768, 768, 1024), (3072, 768, 1024), (768, 3072, 1024))  # , rows
OTHERS = (  # formats, and inputs that share a scale
    (WeightFormat.TERNARY_DENSE, 0),
    (WeightFormat.BINARY, 0),
    (WeightFormat.INT2, 64),
    (WeightFormat.INT3, 64),
    (WeightFormat.INT4, 32),
    (WeightFormat.INT4, 128),
    (WeightFormat.INT8, 0),
)
GOALS = {"avx512vnni": 0.90, "avxvnni": 0.90, "avx2": 0.75}  # of the stream; one row from memory


@dataclass(frozen=True)
class Case:
    """One matrix (outputs, inputs) times ``rows`` activation rows; ``hot``: weights stay in the caches."""

    format: WeightFormat
    outputs: int
    inputs: int
    rows: int = 1
    hot: bool = False
    group: int = 0  # inputs that share a scale; 0: the whole row does

    @property
    def argument(self) -> str:
        return f"{int(self.format)}:{self.outputs}:{self.inputs}:{self.rows}:{int(self.hot)}:{self.group}"

    @property
    def name(self) -> str:
        where = "hot" if self.hot else "from memory"
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        stored = {WeightFormat.TERNARY_DENSE: "ternary 1.6-bit"}.get(self.format, self.format.name.lower())
        stored += f" g{self.group}" if self.group else ""
        return f"{stored} {self.outputs}x{self.inputs}, {rows}, {where}"

    @property
    def macs(self) -> int:
        return self.outputs * self.inputs * self.rows


def cases() -> Iterator[Case]:
    """What decoding (one row) and encoding (many) meet; ternary first, one shape each of the others."""
    for hot in (False, True):
        for outputs, inputs in DECODE if not hot else DECODE[:3]:
            yield Case(WeightFormat.TERNARY, outputs, inputs, hot=hot)
    for outputs, inputs, rows in ENCODE:
        yield Case(WeightFormat.TERNARY, outputs, inputs, rows, hot=True)
    for format_, group in OTHERS:
        yield Case(format_, 2048, 2048, group=group)
        yield Case(format_, 768, 3072, 1024, hot=True, group=group)


def compile_program(folder: Path) -> Path:
    """ops.cc with the kernels, without the delegate. Raises OperatorError: what to install."""
    compiler = build.find_compiler()
    commands = build.compile_commands(compiler, platform.machine(), [], folder)
    commands = {target: line for target, line in commands.items() if Path(line[-3]).parent.name == "kernels"}
    own, program = folder / "ops.o", folder / "ops"
    include = f"-I{build.SOURCES / 'kernels'}"
    commands[own] = [*compiler, "-std=c++17", "-O3", "-Wno-psabi", include, "-c", str(SOURCE), "-o", str(own)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(build.run_compiler, commands.values()))
    build.run_compiler([*compiler, "-pthread", *map(str, commands), "-o", str(program)])
    return program


def measure(program: Path, isa: str, case: Case, rounds: int) -> dict:
    """One line of ops.cc."""
    done = subprocess.run([program, isa, str(rounds), case.argument], capture_output=True, text=True)
    if done.returncode:
        raise EdgeVlmError(f"bench-ops: {isa} {case.name}: {done.stderr.strip()}", "run edge-vlm doctor")
    return json.loads(done.stdout)


def rows_of(isa: str, case: Case, found: dict) -> list[Row]:
    """The time, and the shares of the limit that holds for this case."""
    rows = [Row(f"{isa} {case.name}", found["whole_us"], "us")]
    peak_us = case.macs / found["macs_per_us"] if found["macs_per_us"] and isa == "avx512vnni" else None
    if not case.hot:
        small = case.outputs * case.inputs < SMALL_WEIGHTS
        goal = 0.80 if small and isa == "avx512vnni" else GOALS.get(isa)
        rows.append(
            Row(f"{isa} {case.name}: share of the stream", found["read_us"] / found["whole_us"], "", goal, "higher")
        )
    elif peak_us is not None:
        goal = 0.85 if case.rows == 1 else 0.90
        rows.append(
            Row(f"{isa} {case.name}: kernel, share of the peak", peak_us / found["kernel_us"], "", goal, "higher")
        )
        if case.rows > 1:
            rows.append(
                Row(f"{isa} {case.name}: with quantising, share", peak_us / found["whole_us"], "", 0.80, "higher")
            )
    return rows
