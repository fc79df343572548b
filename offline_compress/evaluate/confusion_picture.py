# SPDX-License-Identifier: Apache-2.0
"""A confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vlm.files import whole_file
from offline_compress.evaluate.event_accuracy import EventAccuracy


def draw_confusion(result: EventAccuracy, title: str, path: Path) -> None:
    """PNG: rows are right classes, columns predicted ones, shaded by the part of each row. Raises OutputError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = result.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.45 * len(counts)
    figure, axis = pyplot.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(counts)), result.classes, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(counts)), result.classes, fontsize=8)
    axis.set(xlabel="predicted", ylabel="right", title=f"{title}\n{result.accuracy:.1%} right")
    axis.title.set_fontsize(9)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=90)
    pyplot.close(figure)
