# SPDX-License-Identifier: Apache-2.0
"""What became of each matrix of several bundles: bits, errors, saliency, what stayed float and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from edge_vlm.files import make_folder, whole_file, write_json
from edge_vlm.runtime.bundle import Bundle
from offline_compress.export.module_names import VISION

JSON_NAME, PICTURE_NAME = "layers.json", "layers.png"
SHOWN = ("name", "method", "bits", "bytes", "relative_error", "final_error", "output_error", "saliency_share",
         "expected_loss", "zero_fraction", "why")  # fmt: skip
STAYS_FLOAT = "norms, biases, position embeddings: few bytes, and no matrix products"
Layers = Mapping[str, Sequence[dict]]  # by bundle


def labels_of(bundles: Sequence[Path]) -> list[str]:
    """Folder names; where several bear the same, with the folder above them, or else a number."""
    names = [Path(path).resolve().name for path in bundles]
    longer = [f"{Path(path).resolve().parent.name}_{name}" for path, name in zip(bundles, names, strict=True)]
    labels = [name if names.count(name) == 1 else long for name, long in zip(names, longer, strict=True)]
    return [label if labels.count(label) == 1 else f"{label}_{i}" for i, label in enumerate(labels, start=1)]


def layers_of(bundles: Sequence[Path]) -> dict[str, list[dict]]:
    """The rows of each bundle's report.json by `labels_of`; a bundle of another maker may have none. Raises
    BundleError."""
    found = {}
    for label, path in zip(labels_of(bundles), bundles, strict=True):
        rows = Bundle.load(path, verify=False).report().get("layers", [])
        found[label] = [{key: row.get(key) for key in SHOWN} for row in rows]
    return found


def weight_error(row: dict) -> float:
    """Of the exported weights, else of the first rounding; 0 where nothing is known."""
    return row.get("final_error") or row.get("relative_error") or 0.0


def layer_table(layers: Layers) -> Table:
    """A line for each bundle, half and method."""
    table = Table(title="matrices", caption=f"float besides: {STAYS_FLOAT}")
    numbers = ("matrices", "kB", "worst error of weights", "of outputs")
    for column in ("bundle", "half", "method", *numbers, "at"):
        table.add_column(column, justify="right" if column in numbers else "left")
    for bundle, rows in layers.items():
        for (half, method), group in grouped(rows).items():
            worst = max(group, key=weight_error)
            outputs = [row["output_error"] for row in group if row["output_error"] is not None]
            size = sum(row["bytes"] or 0 for row in group) / 1000
            known = f"{max(outputs):.4f}" if outputs else ""
            table.add_row(
                bundle, half, method, str(len(group)), f"{size:.1f}", f"{weight_error(worst):.4f}", known, worst["name"]
            )
    return table


def grouped(rows: Sequence[dict]) -> dict[tuple[str, str], list[dict]]:
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault(("vision" if row["name"].startswith(VISION) else "text", row["method"]), []).append(row)
    return groups


def draw_layers(layers: Layers, path: Path) -> None:
    """PNG: bits and weight error of every matrix, from the image to the words. Raises OutputError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (bits, errors) = pyplot.subplots(2, 1, figsize=(9, 5), sharex=True)
    for number, (bundle, rows) in enumerate(layers.items()):
        colour = f"C{number}"
        bits.step(range(len(rows)), [row["bits"] for row in rows], colour, where="mid", label=bundle, linewidth=1)
        known = [(i, weight_error(row)) for i, row in enumerate(rows) if weight_error(row)]
        if known:
            errors.semilogy(*zip(*known, strict=True), ".", color=colour, markersize=4)
    bits.set_ylabel("bits a weight")
    errors.set_ylabel("relative error of weights")
    errors.set_xlabel("matrix, from the image to the words")
    bits.legend(fontsize=8)
    for axis in (bits, errors):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)


def write_layers(layers: Layers, out: Path) -> None:
    """layers.json and layers.png in the folder ``out``. Raises OutputError."""
    make_folder(out)
    write_json(Path(out) / JSON_NAME, {"stays_float": STAYS_FLOAT, "bundles": {k: list(v) for k, v in layers.items()}})
    draw_layers(layers, Path(out) / PICTURE_NAME)
