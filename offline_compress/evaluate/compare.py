# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison: original, ternary, binary side by side; as a table, JSON and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from edge_vlm.files import make_folder, whole_file, write_json
from offline_compress.evaluate.bundle_evaluation import BundleEvaluation

JSON_NAME, PICTURE_NAME = "comparison.json", "comparison.png"


@dataclass(frozen=True)
class Column:
    """One quantity: how it is read and shown; ``lower`` says which way is better."""

    title: str
    unit: str
    value: Callable[[BundleEvaluation], float | None]
    digits: int
    lower: bool


COLUMNS = (
    Column("weights", "MB", lambda row: row.weight_bytes / 1e6, 2, True),
    Column("memory", "MB", lambda row: row.footprint.model_mb, 1, True),
    Column("encode", "ms", lambda row: row.footprint.encode_ms, 1, True),
    Column("prefill", "ms", lambda row: row.footprint.prefill_ms, 1, True),
    Column("decode", "tokens/s", lambda row: row.footprint.tokens_per_second, 0, False),
    Column("perplexity", "", lambda row: row.perplexity, 3, True),
)
DRAWN = ("weights", "memory", "encode", "decode", "perplexity", "cider")


def columns_of(rows: Sequence[BundleEvaluation]) -> tuple[Column, ...]:
    """The fixed columns, then every caption metric that all bundles have."""
    shared = [key for key in rows[0].metrics if all(key in row.metrics for row in rows)] if rows else []
    return COLUMNS + tuple(Column(key, "", lambda row, key=key: row.metrics[key], 3, False) for key in shared)


def comparison_table(rows: Sequence[BundleEvaluation], labels: Sequence[str]) -> Table:
    """One line per bundle under its label; the first is the reference of the ratios behind each figure."""
    table = Table(title=f"{len(rows)} bundles, {rows[0].samples} images, through the .tflite graphs" if rows else None)
    table.add_column("bundle")
    columns = columns_of(rows)
    for column in columns:
        table.add_column(column.title + (f"\n{column.unit}" if column.unit else ""), justify="right")
    for label, row in zip(labels, rows, strict=True):
        cells = [cell(column, row, rows[0]) for column in columns]
        table.add_row(f"{label}\n{row.name}, {row.variant}", *cells)
    return table


def cell(column: Column, row: BundleEvaluation, reference: BundleEvaluation) -> str:
    value, factor = column.value(row), ratio(column, row, reference)
    shown = "-" if value is None else f"{value:.{column.digits}f}"
    return shown if row is reference or factor is None else f"{shown}\n{factor:.3g}x"


def comparison_json(rows: Sequence[BundleEvaluation], labels: Sequence[str]) -> dict:
    """``rows`` in full with their labels, and per bundle the ratio of every quantity to the first bundle's."""
    columns = columns_of(rows)
    ratios = [{column.title: ratio(column, row, rows[0]) for column in columns} for row in rows]
    shown = [{"label": label, **row.to_json()} for label, row in zip(labels, rows, strict=True)]
    return {"reference": labels[0], "rows": shown, "ratios": ratios}


def ratio(column: Column, row: BundleEvaluation, reference: BundleEvaluation) -> float | None:
    """None where the reference is zero, or one of the two has no such figure."""
    value, first = column.value(row), column.value(reference)
    return round(value / first, 5) if first and value is not None else None


def draw_comparison(rows: Sequence[BundleEvaluation], labels: Sequence[str], path: Path) -> None:
    """PNG: one bar chart per quantity. Raises OutputError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = [column for column in columns_of(rows) if column.title in DRAWN]
    figure, axes = pyplot.subplots(1, len(columns), figsize=(2.4 * len(columns), 3.0), squeeze=False)
    colours = pyplot.get_cmap("tab10").colors
    for axis, column in zip(axes[0], columns, strict=True):
        values = [column.value(row) or 0.0 for row in rows]
        bars = axis.bar(range(len(rows)), values, color=colours[: len(rows)])
        axis.set_xticks(range(len(rows)), labels)
        axis.bar_label(bars, fmt=f"%.{column.digits}f", fontsize=8)
        direction = "lower is better" if column.lower else "higher is better"
        axis.set_title(f"{column.title} {f'({column.unit})' if column.unit else ''}\n{direction}", fontsize=9)
        axis.tick_params(axis="x", labelrotation=30, labelsize=8)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.15)
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)


def write_comparison(rows: Sequence[BundleEvaluation], labels: Sequence[str], out: Path) -> None:
    """comparison.json and comparison.png in the folder ``out``. Raises OutputError."""
    make_folder(out)
    write_json(Path(out) / JSON_NAME, comparison_json(rows, labels))
    draw_comparison(rows, labels, Path(out) / PICTURE_NAME)
