# SPDX-License-Identifier: Apache-2.0
"""The course of a training as one picture: losses, what the patches' heads know, metrics on held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_vlm.files import whole_file

_PANELS = (
    ("loss", ("answer", "dense")),
    ("accuracy on patches", ("cover", "colour", "centre", "order", "count", "relation", "surface")),
    ("held-out captions", ("heldout_cider", "heldout_perplexity", "heldout_bleu_4")),
)


def draw_curve(rows: Sequence[dict], path: Path, panels: Sequence[tuple[str, Sequence[str]]] = _PANELS) -> None:
    """PNG of the rows of curve.jsonl; a panel is a title and the columns it shows. Raises OutputError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(15, 4.2), layout="constrained")
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            short = name.removeprefix("heldout_").removeprefix("dev_")
            if points:
                steps, values = zip(*points, strict=True)
                axis.plot(
                    steps,
                    values,
                    label=name if short in names else short,
                    marker="." if len(points) < 40 else None,
                )
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=8)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=90)
    pyplot.close(figure)
